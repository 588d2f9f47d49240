"""What a sampler is: state in, (state, info) out, for many chains at once."""

from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites
from lattice_flows.groups import Group
from lattice_flows.streams import Streams


class ChainState(NamedTuple):
    """Where Markov chains stand."""

    links: Tensor
    """`(chains, dim, *sites, *element)`."""
    action: Tensor
    """`(chains,)`."""
    log_q: Tensor | None = None
    """`(chains,)` under the flow that proposes, where one does and nothing else has moved the links since."""
    offered: Tensor | None = None
    """`(chains,)` int64: how many proposals of a flow each chain has met."""


class Sampler(Protocol):
    """A Markov chain transition that leaves p = exp(-S) / Z invariant, of all chains independently.

    Chain k draws from stream k alone, and none of its digits depends on the chains beside it: a chain is the same, bit
    for bit, whichever others run with it, and goes on the same from a state and its streams.
    """

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        ...

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, Any]:
        """The next state, and what happened on the way: a NamedTuple with `acceptance` `(chains,)`, the share of
        accepted changes, and whatever else the algorithm has to say."""
        ...


def start(
    group: Group,
    sites,
    streams: Streams,
    how: Literal["hot", "cold"] = "hot",
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Links `(chains, dim, *sites, *element)` for chains to begin from: Haar elements, or all 1.

    Example:
        >>> from lattice_flows import SU
        >>> start(SU(2), (4, 4, 4), Streams(seed=0, chains=3)).shape
        torch.Size([3, 3, 4, 4, 4, 2, 2])
    """
    sites = check_sites(sites)
    shape = (len(sites), *sites)
    if how == "cold":
        return group.identity(len(streams), *shape, dtype=dtype, device=streams.device)
    return streams.draw(lambda g: group.haar(*shape, generator=g, dtype=dtype, device=streams.device))


def stand_at(links: Tensor, action: ActionLike) -> ChainState:
    """The state of chains at `links`, of which nothing but the action is known yet.

    Raises:
        InvalidInput: the action does not give one number for each chain.
    """
    with torch.no_grad():
        values = torch.cat([action(one) for one in links.split(1)])
    if values.shape != links.shape[:1]:
        raise InvalidInput(
            f"links {tuple(links.shape)} need an action of shape {tuple(links.shape[:1])}, got {tuple(values.shape)}: "
            "links of chains are (chains, dim, *sites, *element); where extents of 2 hide the dimension, give the "
            "action its dim"
        )
    return ChainState(links, values)


def own_mean(values: Tensor) -> float:
    """The mean of a number of each chain `(chains,)`, where there are no other chains than these."""
    return float(values.mean())


def choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where `accepted`, a mask over the first axes, and `old` elsewhere."""
    return torch.where(accepted.reshape(accepted.shape + (1,) * (new.ndim - accepted.ndim)), new, old)


def restore(links: Tensor, group: Group) -> Tensor:
    """Links brought back to the group, from which products of many elements drift away by rounding.

    U (3 - U^dagger U) / 2 is unitary up to the square of what U lacks; then the phase of its determinant is taken out.

    Source: A. Bjorck and C. Bowie, SIAM J. Numer. Anal. 8 (1971) 358, for the iteration.

    Example:
        >>> from lattice_flows import SU
        >>> links = 1.001 * SU(3).identity(2, 4, 4, dtype=torch.float64)
        >>> bool(SU(3).defect(restore(links, SU(3))).max() < 1e-5)
        True
    """
    if not group.element_shape:
        return links
    factor = -0.5 * (links.mH @ links)
    diagonal = torch.view_as_real(factor).diagonal(dim1=-3, dim2=-2)  # (..., 2, N)
    diagonal[..., 0, :] += 1.5
    diagonal[..., 1, :] -= (torch.linalg.det(links).imag / group.n).unsqueeze(-1)
    return links @ factor
