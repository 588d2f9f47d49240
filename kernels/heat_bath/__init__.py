"""heat_bath and over_relaxation: one pass of SU(N) matrices over their SU(2) subgroups."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, like, plain, underivable
from lattice_flows.kernels.heat_bath import reference
from lattice_flows.kernels.matrices import check_matrices

__all__ = ["heat_bath", "over_relaxation"]

LARGEST = 8  # the largest N that there is a compiled kernel for
LARGEST_ON_GPU = 3  # and a Triton kernel


def heat_bath(elements: Tensor, staples: Tensor, strength: float, uniforms: Tensor) -> Tensor:
    """One heat-bath pass over all SU(2) subgroups, which leaves exp(strength Re tr(U S)) invariant, S the staples.

    Subgroup (p, q), in the order of `itertools.combinations(range(N), 2)`, takes U to a U with a from its density given
    all the rest. Each attempt draws it from four of the numbers; where all are rejected U stays, up to rounding. For
    the Wilson action S is the sum of the staples and strength beta / N. In a compiled kernel a result depends on its
    own inputs alone, to the last bit. There is no derivative, and asking for one raises.

    Shapes: elements of SU(N), N >= 2, and staples `(..., N, N)`, complex64 or complex128; uniforms
    `(..., N (N - 1) / 2, attempts, 4)`, real, of that precision, in [0, 1) -> `(..., N, N)`, in SU(N) to rounding.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or strength is not a finite number >= 0.

    Source: N. Cabibbo and E. Marinari, Phys. Lett. B 119 (1982) 387; A. D. Kennedy and B. J. Pendleton, Phys. Lett. B
    156 (1985) 393.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> links = torch.eye(2, dtype=torch.complex64).expand(5000, 2, 2)
        >>> uniforms = torch.rand(5000, 1, 4, 4, generator=generator)
        >>> new = heat_bath(links, 2 * links, 1.0, uniforms)  # <tr U> / 2 = I_2(4) / I_1(4) = 0.658 at this strength
        >>> bool((new[:, 0, 0].real.mean() - 0.658).abs() < 0.01)
        True
    """
    flat, flat_staples = _flatten(elements, staples)
    pairs, real = math.comb(elements.shape[-1], 2), elements.real.dtype
    wanted = *elements.shape[:-2], pairs, 4
    if uniforms.dtype != real or uniforms.ndim < 3 or (*uniforms.shape[:-2], uniforms.shape[-1]) != wanted:
        raise InvalidInput(
            f"uniforms must be {real} (..., {pairs}, attempts, 4) for elements of shape {tuple(elements.shape)}, "
            f"got {uniforms.dtype} {tuple(uniforms.shape)}"
        )
    if not (math.isfinite(strength) and strength >= 0):
        raise InvalidInput(f"the strength must be a finite number >= 0, got {strength!r}")
    numbers = uniforms.reshape(len(flat), *uniforms.shape[-3:])
    return _draw(flat, flat_staples, float(strength), numbers).reshape(elements.shape)


def over_relaxation(elements: Tensor, staples: Tensor) -> Tensor:
    """One pass of microcanonical reflections over all SU(2) subgroups: Re tr(U S) stays, to rounding, S the staples.

    Subgroup (p, q), in the order of `itertools.combinations(range(N), 2)`, takes U to a U with a = (v^dagger)^2, v the
    direction in SU(2) of that block of U S: v becomes its inverse. Any density that depends on U through Re tr(U S) is
    left invariant. In a compiled kernel a result depends on its own inputs alone. There is no derivative, and asking
    for one raises.

    Shapes: elements of SU(N), N >= 2, and staples `(..., N, N)`, complex64 or complex128 -> `(..., N, N)`, in SU(N) to
    rounding.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other.

    Source: M. Creutz, Phys. Rev. D 36 (1987) 515; F. R. Brown and T. J. Woch, Phys. Rev. Lett. 58 (1987) 2394.

    Example:
        >>> import torch
        >>> u, s = torch.diag(torch.tensor([1j, -1j])), torch.diag(torch.tensor([2 - 1j, 2 + 1j]))
        >>> new = over_relaxation(u, s)
        >>> bool(torch.isclose((u @ s).trace().real, (new @ s).trace().real))
        True
    """
    return _reflect(*_flatten(elements, staples)).reshape(elements.shape)


def _flatten(elements: Tensor, staples: Tensor) -> tuple[Tensor, Tensor]:
    """Both with one batch axis, if they fit each other."""
    batch, n = check_matrices(elements, "elements must be")
    if staples.dtype != elements.dtype or staples.shape != elements.shape:
        raise InvalidInput(
            f"staples must be {elements.dtype} {tuple(elements.shape)} as the elements are, "
            f"got {staples.dtype} {tuple(staples.shape)}"
        )
    shape = batch.numel(), n, n
    return elements.reshape(shape), staples.reshape(shape)


_heat_bath = define_op(
    reference.heat_bath,
    like,
    lambda elements, staples, strength, uniforms, out: (
        plain(elements), plain(staples), torch.tensor(strength, dtype=torch.float64), uniforms.contiguous(),
        uniforms.shape[2], len(elements), out,
    ),
    largest=LARGEST,
)  # fmt: skip
_over_relaxation = define_op(
    reference.over_relaxation,
    like,
    lambda elements, staples, out: (plain(elements), plain(staples), len(elements), out),
    largest=LARGEST,
)
_draw, _reflect = underivable(_heat_bath), underivable(_over_relaxation)
