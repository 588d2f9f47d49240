"""Heat bath and over-relaxation for the Wilson action."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Wilson
from lattice_flows.kernels.heat_bath import heat_bath, over_relaxation
from lattice_flows.sampling import von_mises
from lattice_flows.sampling.base import ChainState, stand_at
from lattice_flows.sampling.checkerboard import check_wilson, flatten, staples
from lattice_flows.streams import Streams

ATTEMPTS = 4  # in each SU(2) subgroup


class SweepInfo(NamedTuple):
    """What happened in a sweep."""

    acceptance: Tensor
    """1 for each chain `(chains,)`: no sweep is rejected."""


class Sweep:
    """What heat bath and over-relaxation share: every link is changed once, given its staples.

    Args:
        action: the Wilson action.

    Raises:
        InvalidInput: another action.
    """

    def __init__(self, action: Wilson):
        check_wilson(action, type(self).__name__)
        self.action = action

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        return stand_at(links, self.action)

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, SweepInfo]:
        """One sweep."""
        group = self.action.group
        flat, cells = flatten(state.links, group)
        uniforms = self._uniforms(flat, streams)
        done = 0
        for cell in cells:
            n = len(cell.active)
            link, sums = flat.index_select(1, cell.active), staples(flat, cell, group)
            flat.index_copy_(1, cell.active, self._change(link, sums, uniforms, slice(done, done + n)))
            done += n
        links = flat.reshape(state.links.shape)
        action = self.action(links)
        return ChainState(links, action, None, state.offered), SweepInfo(torch.ones_like(action))

    @abstractmethod
    def _uniforms(self, flat: Tensor, streams: Streams) -> Tensor | None:
        """The random numbers of a sweep."""

    @abstractmethod
    def _change(self, links: Tensor, sums: Tensor, uniforms, here: slice) -> Tensor:
        """New links `(chains, n, *element)`, from the random numbers of links `here` in the order of the sweep."""


class HeatBath(Sweep):
    """One sweep draws every link from its density given all others: p(U) ~ exp((beta / N) Re tr(U S)).

    U(1): the von Mises density. SU(2): Kennedy and Pendleton. SU(N): all SU(2) subgroups one after the other. The
    number of attempts is fixed; where all are rejected, the chance of which depends on S alone, the link stays.

    Source: D. J. Best and N. I. Fisher, Appl. Statist. 28 (1979) 152; A. D. Kennedy and B. J. Pendleton, Phys. Lett.
    B 156 (1985) 393; N. Cabibbo and E. Marinari, Phys. Lett. B 119 (1982) 387.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.sampling import Streams, start
        >>> streams, sampler = Streams(seed=1, chains=2), HeatBath(Wilson(SU(3), beta=6.0))
        >>> state = sampler.init(start(SU(3), (4, 4, 4), streams))
        >>> state, _ = sampler.step(state, streams)
        >>> state.action.shape
        torch.Size([2])
    """

    def _uniforms(self, flat, streams):
        n, size = self.action.group.n, flat.shape[1]
        shape = (size, n * (n - 1) // 2, ATTEMPTS, 4) if n > 1 else (von_mises.ATTEMPTS, 2, size)
        return streams.rand(*shape, dtype=flat.real.dtype)

    def _change(self, links, sums, uniforms, here):
        group, beta = self.action.group, self.action.beta
        if group.element_shape:
            return heat_bath(links, sums, beta / group.n, uniforms[:, here])
        return von_mises.heat_bath(links, sums, beta, uniforms[..., here])


class OverRelaxation(Sweep):
    """One sweep reflects every link such that the action stays: about the phase of S, or in all SU(2) subgroups.

    It moves far and draws nothing, and is not ergodic: mix it with a heat bath in a `Cycle`.

    Source: M. Creutz, Phys. Rev. D 36 (1987) 515; F. R. Brown and T. J. Woch, Phys. Rev. Lett. 58 (1987) 2394.

    Example:
        >>> from lattice_flows import U1
        >>> from lattice_flows.sampling import Streams, start
        >>> streams, sampler = Streams(seed=1, chains=2), OverRelaxation(Wilson(U1(), beta=2.0))
        >>> state = sampler.init(start(U1(), (4, 4), streams))
        >>> after, _ = sampler.step(state, streams)
        >>> bool((after.action - state.action).abs().max() < 1e-4)
        True
    """

    def _uniforms(self, flat, streams):
        return None

    def _change(self, links, sums, uniforms, here):
        return over_relaxation(links, sums) if links.is_complex() else von_mises.over_relaxation(links, sums)
