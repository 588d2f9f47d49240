"""Draws and reflections of links of U(1) with the density exp(beta Re(e^{i a} S)), S the sum of the staples.

There is no atan2 here, as its last digit depends on the place in a tensor.
"""

import torch
from torch import Tensor

from lattice_flows.kernels.circular_spline.reference import wrap

ATTEMPTS = 6


def argument(z: Tensor) -> Tensor:
    """arg z of complex numbers, by the tangent of half of it.

    Example:
        >>> argument(torch.tensor([1j, -1.0, 0.0]))
        tensor([1.5708, 3.1416, 0.0000])
    """
    x, y = z.real.contiguous(), z.imag.contiguous()
    r, tiny = (x * x + y * y).sqrt(), torch.finfo(x.dtype).tiny
    # each quotient where it does not cancel
    half = torch.where(x < 0, (r - x) / torch.where(y == 0, tiny, y), y / (r + x).clamp_min(tiny))
    return 2 * half.atan()


def heat_bath(angles: Tensor, sums: Tensor, strength: float, uniforms: Tensor) -> Tensor:
    """Draw angles from exp(k cos(a + arg S)), k = strength |S|, by rejection from a wrapped Cauchy law.

    With rho = 2 k / (tau + sqrt(2 tau)), tau = 1 + sqrt(1 + 4 k^2), proposals are 2 atan((1 - rho) / (1 + rho) t),
    t = tan(pi (u - 1/2)): Best and Fisher's law without its arc cosine. Where all attempts fail, the angle stays. The
    chance of that depends on S alone, so the density is invariant.

    Shapes: angles `(...)`, sums `(...)` complex, uniforms `(..., attempts, 2)` in [0, 1).

    Source: D. J. Best and N. I. Fisher, Appl. Statist. 28 (1979) 152.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sums, uniforms = torch.full((1, 1000), 3j), torch.rand(1, 1000, 6, 2, generator=generator)
        >>> bool((heat_bath(torch.zeros(1, 1000), sums, 1.0, uniforms).mean() + torch.pi / 2).abs() < 0.1)
        True
    """
    x, y = sums.real.contiguous(), sums.imag.contiguous()
    k = (strength * (x * x + y * y).sqrt()).unsqueeze(-1)
    tau = 1 + (1 + 4 * k * k).sqrt()
    q = (tau + (2 * tau).sqrt()) / 2  # k / rho
    rho = k / q
    turn, threshold = (part.contiguous() for part in uniforms.unbind(-1))
    turn = torch.pi * (turn - 0.5)
    # Best and Fisher's k (r - f)
    c = q * (1 - rho * rho).square() / (2 + 2 * rho * (rho + 2 * (2 * turn).cos()))
    accepted = threshold.log() < c.log() + 1 - c
    drawn = 2 * ((1 - rho) / (1 + rho) * turn.tan()).atan() - argument(sums).unsqueeze(-1)
    for fits, angle in zip(accepted.unbind(-1), wrap(drawn).unbind(-1), strict=True):
        angles = torch.where(fits, angle, angles)
    return angles


def over_relaxation(angles: Tensor, sums: Tensor) -> Tensor:
    """The other angle with the same Re(e^{i a} S): -a - 2 arg S.

    Shapes: angles `(...)`, sums `(...)` complex.

    Source: M. Creutz, Phys. Rev. D 36 (1987) 515; F. R. Brown and T. J. Woch, Phys. Rev. Lett. 58 (1987) 2394.

    Example:
        >>> over_relaxation(torch.tensor([0.5]), torch.tensor([1.0 + 0j]))
        tensor([-0.5000])
    """
    return wrap(-angles - 2 * argument(sums))
