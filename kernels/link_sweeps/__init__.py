"""link_sweeps: heat bath and over-relaxation of all links of a lattice, many sweeps in one call."""

import functools
import itertools
import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, gpu
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_sweeps import reference
from lattice_flows.kernels.link_sweeps.reference import ATTEMPTS, HEAT_BATH, OVER_RELAXATION, reach_of

__all__ = ["HEAT_BATH", "OVER_RELAXATION", "link_sweeps", "sublattices"]

SMALLEST, LARGEST = 1, 8  # the smallest and largest N that there is a compiled kernel for; N = 1 is U(1)
LARGEST_ON_GPU = 3  # and a Triton kernel, for N = 2 and 3
NODES = 16
"""The most sublattices, the same on every machine."""


class Swept(NamedTuple):
    """New links `(chains, dim, *extents, *element)`, and their action `(chains,)`, float64.

    If it is wanted `before`, too, `(chains, 2)`: that of the given links and of the new ones.
    """

    links: Tensor
    action: Tensor


def link_sweeps(
    links: Tensor,
    extents: Sequence[int],
    weights: Tensor,
    moves: Sequence[int],
    keys: Tensor,
    calls: Tensor,
    before: bool = False,
) -> Swept:
    """Sweeps over the links of periodic lattices: each move changes every link once, given its staples.

        S = -sum over x and mu < nu of w_{mu nu} Re tr P_{mu nu}(x),    w = beta / N for the Wilson action,

    minus, with weights `(2, dim, dim)`, the sum over mu != nu of v_{mu nu} Re tr of the rectangles of two steps along
    mu and one along nu. With weights `(planes, *extents)`, every plaquette has its own, real or
    complex, of SU(2) real,

        S = -sum over x and mu < nu of Re [w_{mu nu}(x) tr P_{mu nu}(x)].

    A heat bath leaves exp(-S) invariant, over-relaxation S itself. A chain depends on its own links, key and calls
    alone. The k-th heat bath takes the numbers of call calls + k of a stream. There is no derivative, and asking for
    one raises.

    Shapes: links `(chains, dim, *extents, N, N)`, N >= 2, complex, or for U(1) angles `(chains, dim, *extents)`, real;
    weights w `(dim, dim)`, or w and v `(2, dim, dim)`, float64, w symmetric, or w `(planes, *extents)`, float64 or
    complex128, of the planes 01, 02, ... in order; moves of `HEAT_BATH` and `OVER_RELAXATION`; keys `(chains, 2)` and
    calls `(chains,)`, int64, as for `uniforms`.

    Raises:
        InvalidInput: shapes or dtypes do not fit, or the extents have no `sublattices` of the reach of the loops.

    Source: N. Cabibbo and E. Marinari, Phys. Lett. B 119 (1982) 387; A. D. Kennedy and B. J. Pendleton, Phys. Lett. B
    156 (1985) 393; M. Creutz, Phys. Rev. D 36 (1987) 515; P. Boyle et al., arXiv:1512.03487, for the layout.

    Example:
        >>> import torch
        >>> links, weights = torch.zeros(1, 2, 8, 8), torch.full((2, 2), 4.0, dtype=torch.float64)
        >>> keys, calls = torch.tensor([[1, 2]]), torch.tensor([0])
        >>> hot = link_sweeps(links, (8, 8), weights, [HEAT_BATH] * 50, keys, calls)
        >>> after = link_sweeps(hot.links, (8, 8), weights, [OVER_RELAXATION] * 4, keys, calls)
        >>> bool(-250 < hot.action < -200), bool(torch.isclose(hot.action, after.action))  # <cos P> = 0.86
        (True, True)
    """
    nodes, flat = check_fields(links, tuple(extents), weights, keys, calls, reach=reach_of(weights))
    if set(moves) - {HEAT_BATH, OVER_RELAXATION}:
        raise InvalidInput(f"moves are HEAT_BATH and OVER_RELAXATION, got {list(moves)}")
    new, action = _sweeps(flat, list(extents), list(nodes), weights, list(moves), keys, calls, before)
    return Swept(new.reshape(links.shape), action if before else action[:, 0])


def check_fields(
    links: Tensor, extents: tuple[int, ...], weights: Tensor, keys: Tensor, calls: Tensor, reach: int = 1
) -> tuple[tuple[int, ...], Tensor]:
    """The cut into sublattices, and the links `(chains, dim * V, N, N)`, if all fit each other."""
    chains = len(links)
    check_weights(weights, extents)
    if links.is_cuda and weights.ndim > 2:
        raise InvalidInput("kernels on GPUs have one weight for all plaquettes of a plane, and no rectangles")
    fields = check_links(links, extents, reach)
    if {keys.dtype, calls.dtype} != {torch.int64} or keys.shape != (chains, 2) or calls.shape != (chains,):
        raise InvalidInput(
            f"keys and calls must be int64 ({chains}, 2) and ({chains},), got {keys.dtype} {tuple(keys.shape)} and "
            f"{calls.dtype} {tuple(calls.shape)}"
        )
    return fields


def check_weights(weights: Tensor, extents: tuple[int, ...]) -> None:
    """Raise InvalidInput if the weights are none of `link_sweeps`."""
    dim = len(extents)
    sites = (math.comb(dim, 2), *extents)
    shaped = weights.shape == sites and weights.dtype in (torch.float64, torch.complex128)
    if weights.shape in ((dim, dim), (2, dim, dim)) and weights.dtype == torch.float64:
        traced = torch.compiler.is_compiling()  # there are no numbers to look at
        shaped = traced or torch.equal(planes := weights.reshape(-1, dim, dim)[0], planes.T)
    if not shaped:
        raise InvalidInput(
            f"weights must be float64 and symmetric ({dim}, {dim}), with those of rectangles (2, {dim}, {dim}), or "
            f"float64 or complex128 {sites}, got {weights.dtype} {tuple(weights.shape)}"
        )


def form_of(weights: Tensor) -> tuple[Tensor, int]:
    """Weights as numbers, and for the compiled functions what they are."""
    if weights.is_complex():
        return torch.view_as_real(weights.resolve_conj()).contiguous(), 3
    sites = weights.ndim > 2 and reach_of(weights) == 1
    return weights.contiguous(), 2 if sites else weights.ndim - 2


def check_links(links: Tensor, extents: tuple[int, ...], reach: int = 1) -> tuple[tuple[int, ...], Tensor]:
    """The same of links alone."""
    dim = len(extents)
    nodes = (1,) * dim if links.is_cuda else sublattices(extents, reach)  # a GPU has chains in lanes
    element = links.shape[-1:] * 2 if links.is_complex() else ()
    if nodes is None or links.ndim < 1 or links.shape[1:] != (dim, *extents, *element):
        raise InvalidInput(
            "links must be (chains, dim, *extents, N, N), or angles (chains, dim, *extents), of extents >= "
            f"{reach + 1}, got {links.dtype} {tuple(links.shape)} and extents {extents}"
        )
    return nodes, links.reshape(len(links), dim * math.prod(extents), *(element or (1, 1)))


def sublattices(extents: tuple[int, ...], reach: int = 1) -> tuple[int, ...] | None:
    """The number of sublattices along each direction, or None for an extent that no loop of this reach fits.

    They are 16, or the 8, 4, 2 or 1 that extents > reach allow. The cut is the one with the fewest sites at borders; of
    equals the last directions are cut. The reach is the longest side of a loop, 1 of plaquettes and 2 of rectangles: no
    loop has links of two lanes that change at once.

    Example:
        >>> sublattices((8, 8, 8, 8)), sublattices((5, 16, 6)), sublattices((4, 4, 4)), sublattices((5, 5, 5))
        ((1, 1, 4, 4), (1, 8, 2), (2, 2, 2), (1, 1, 1))
        >>> sublattices((8, 8, 8, 8), reach=2), sublattices((4, 4, 4, 4), reach=2), sublattices((8, 2), reach=2)
        ((2, 2, 2, 2), (1, 1, 1, 1), None)
    """
    # torch.compile warns of a cache; a decorator that tells it to ask here would import half of torch at every start
    return (_cut.__wrapped__ if torch.compiler.is_compiling() else _cut)(extents, reach)


@functools.cache
def _cut(extents: tuple[int, ...], reach: int) -> tuple[int, ...] | None:
    counts = itertools.product(*([k for k in (1, 2, 4, 8, 16) if not e % k and e // k > reach] for e in extents))
    cuts = [cut for cut in counts if math.prod(cut) <= NODES]

    def border(cut: tuple[int, ...]) -> float:
        return sum(k / extent for k, extent in zip(cut, extents, strict=True) if k > 1)

    return min(cuts, key=lambda cut: (-math.prod(cut), round(border(cut), 9), cut), default=None)


def available(extents: tuple[int, ...], n: int, links: Tensor, rectangles: bool = False) -> bool:
    """Whether there is a kernel for links of SU(N), or with n = 1 of U(1), on lattices of these extents."""
    blocks = max(1, math.comb(n, 2)) * ATTEMPTS * 2
    return has_kernel(reference, blocks, extents, n, links, rectangles, reach=1 + rectangles)


def has_kernel(
    reference: ModuleType,
    blocks: int,
    extents: tuple[int, ...],
    n: int,
    links: Tensor,
    rectangles: bool = False,
    reach: int = 1,
) -> bool:
    """The same of an op of whole lattices, by its reference, that draws at most so many blocks of numbers a link."""
    if len(extents) * math.prod(extents) * blocks > 2**32:  # those of one call
        return False
    op = reference.__name__.split(".")[-2]
    if links.is_cuda:
        return not rectangles and 2 <= n <= LARGEST_ON_GPU and gpu.implementation(op, n) is not reference
    known = sublattices(extents, reach) is not None and SMALLEST <= n <= LARGEST and links.is_cpu
    return known and build.native(op, links.dtype, n) is not None


def _shapes(links, *inputs):
    actions = links.new_empty(len(links), 1 + inputs[-1], dtype=torch.float64)
    return torch.empty_like(links, memory_format=torch.contiguous_format), actions


def integers(values: Sequence[int]) -> Tensor:
    """An int64 tensor of numbers, for reading."""
    return _integers(tuple(values))


@functools.lru_cache(256)
def _integers(values: tuple[int, ...]) -> Tensor:
    """One for all calls with the same numbers: to make it takes as long as a sweep of a small lattice."""
    return torch.tensor(values, dtype=torch.int64)


def reals(values: Sequence[float]) -> Tensor:
    """A float64 tensor of numbers."""
    return torch.tensor(values, dtype=torch.float64)


def no_memory(op: str, links: Tensor, *_) -> NoReturn:
    """Raises what an op says whose compiled function found no memory for its copy of the links."""
    size = links[0].numel() * links.element_size() / 2**30
    raise InvalidInput(f"{op}: no memory for another field of {size:.3g} GiB: use fewer threads or a smaller lattice")


_op = define_op(
    reference.link_sweeps,
    _shapes,
    lambda links, extents, nodes, weights, moves, keys, calls, before, out, action: (
        plain(links), len(links), len(extents), integers(extents), integers(nodes), *form_of(weights),
        integers(moves), len(moves), keys.contiguous(), calls.contiguous(), int(before), out,
        action,
    ),
    smallest=SMALLEST,
    largest=LARGEST,
    failed=no_memory,
)  # fmt: skip
_sweeps = underivable(_op)
