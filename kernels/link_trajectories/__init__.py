"""link_trajectories: molecular dynamics of all links of a lattice, a whole trajectory in one call."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_sweeps import (
    LARGEST,
    SMALLEST,
    check_fields,
    form_of,
    has_kernel,
    integers,
    no_memory,
    reals,
)
from lattice_flows.kernels.link_sweeps import LARGEST_ON_GPU as LARGEST_ON_GPU  # for gpu.implementation
from lattice_flows.kernels.link_trajectories import reference

__all__ = ["link_trajectories"]


class Moved(NamedTuple):
    """The end of a trajectory: its links, the change of H, and the action there, `(chains,)`, float64."""

    links: Tensor
    delta_h: Tensor
    action: Tensor


def link_trajectories(
    links: Tensor,
    extents: Sequence[int],
    weights: Tensor,
    kicks: Sequence[float],
    step: float,
    keys: Tensor,
    calls: Tensor,
) -> Moved:
    """Trajectories of H = inner(P, P) / 2 + S from new momenta: kicks of P, and between them steps of the links.

        S = -sum over x and mu < nu of w_{mu nu} Re tr P_{mu nu}(x),    U -> exp(step P) U,    P -> P - kick F,

    with inner(X, Y) = -2 tr(X Y), for angles X Y, and F the force in this product; weights `(2, dim, dim)` are those
    of plaquettes and rectangles, and `(planes, *extents)` of single plaquettes, as for `link_sweeps`. The links end
    in the group, to rounding. A chain depends on its own links, key and call alone. There is no derivative, and
    asking for one raises.

    Shapes: links `(chains, dim, *extents, N, N)`, N >= 2, complex, or for U(1) angles `(chains, dim, *extents)`, real;
    weights `(dim, dim)` or `(2, dim, dim)`, float64, the first symmetric; n + 1 kicks for n steps; keys `(chains, 2)`
    and calls `(chains,)`, int64, as for `uniforms`.

    Raises:
        InvalidInput: shapes or dtypes do not fit, or there are no two kicks.

    Source: S. Duane et al., Phys. Lett. B 195 (1987) 216.

    Example:
        >>> import torch
        >>> links, weights = torch.zeros(1, 2, 8, 8, dtype=torch.float64), torch.full((2, 2), 4.0, dtype=torch.float64)
        >>> keys, calls = torch.tensor([[1, 2]]), torch.tensor([0])
        >>> end = link_trajectories(links, (8, 8), weights, [0.01, *[0.02] * 49, 0.01], 0.02, keys, calls)
        >>> bool(end.delta_h.abs() < 0.05), bool(end.action > -256)
        (True, True)
    """
    nodes, flat = check_fields(links, tuple(extents), weights, keys, calls)
    if len(kicks) < 2 or not all(math.isfinite(number) for number in (*kicks, step)):
        raise InvalidInput(f"a trajectory has two kicks or more, and finite steps, got {list(kicks)} and {step}")
    new, energies = _trajectories(flat, list(extents), list(nodes), weights, list(kicks), float(step), keys, calls)
    return Moved(new.reshape(links.shape), energies[:, 1] - energies[:, 0], energies[:, 2])


def available(extents: tuple[int, ...], n: int, links: Tensor, rectangles: bool = False) -> bool:
    """Whether there is a kernel for links of SU(N), or with n = 1 of U(1), on lattices of these extents."""
    return has_kernel(reference, -(-max(1, n * n - 1) // 4) * 2, extents, n, links, rectangles)


def _shapes(links, *_):
    plain_links = torch.empty_like(links, memory_format=torch.contiguous_format)
    return plain_links, links.new_empty(len(links), 3, dtype=torch.float64)


_op = define_op(
    reference.link_trajectories,
    _shapes,
    lambda links, extents, nodes, weights, kicks, step, keys, calls, out, energies: (
        plain(links), len(links), len(extents), integers(extents), integers(nodes), *form_of(weights),
        reals(kicks), len(kicks) - 1, reals([step]), keys.contiguous(), calls.contiguous(), out,
        energies,
    ),
    smallest=SMALLEST,
    largest=LARGEST,
    failed=no_memory,
)  # fmt: skip
_trajectories = underivable(_op)
