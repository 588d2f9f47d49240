"""Inputs of spectral_flow that its tests and the benchmark share: matrices far from and near degeneracy, parameters."""

import math

import torch
from torch import Tensor

from lattice_flows.kernels.spectral_flow.reference import n_params

KINDS = ("haar", "identity 1e-2", "identity 1e-4", "centre 1e-3", "gap 1e-3", "gap 1e-6", "degenerate", "identity")


def haar(n: int, m: int, generator: torch.Generator) -> Tensor:
    """Haar-distributed SU(N) matrices `(m, N, N)` in complex128 (F. Mezzadri, math-ph/0609050).

    Example:
        >>> import torch
        >>> v = haar(3, 5, torch.Generator().manual_seed(0))
        >>> bool((v.mH @ v - torch.eye(3)).abs().max() < 1e-14), bool((torch.linalg.det(v) - 1).abs().max() < 1e-14)
        (True, True)
    """
    q, r = torch.linalg.qr(torch.randn(m, n, n, generator=generator, dtype=torch.complex128))
    q = q * torch.sgn(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    return q * _turn(-torch.linalg.det(q).angle() / n)[:, None, None]


def matrices(kind: str, n: int, m: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Matrices `(m, N, N)` of a kind of KINDS, made in complex128 and then rounded to the complex `dtype`.

    "identity 1e-2" has phases of that size; "centre 1e-3" is as near to a centre element other than the identity, to
    each in turn; "gap 1e-6" has two phases so far apart, "degenerate" two that are equal.
    """
    frame = haar(n, m, generator)
    if kind == "haar":
        return frame.to(dtype).contiguous()
    name, _, number = kind.partition(" ")
    size = float(number or 0)
    phases = 2 * torch.rand(m, n, generator=generator, dtype=torch.float64) - 1
    if name in ("gap", "degenerate"):
        phases[:, 1] = phases[:, 0] + size
    elif name in ("identity", "centre"):
        phases *= size
    else:
        raise ValueError(f"unknown kind {kind!r}, valid kinds: {', '.join(KINDS)}")
    phases -= phases.mean(-1, keepdim=True)
    if name == "centre":
        phases += 2 * math.pi / n * (1 + torch.arange(m, dtype=torch.float64) % (n - 1)).unsqueeze(-1)
    return ((frame * _turn(phases).unsqueeze(-2)) @ frame.mH).to(dtype).contiguous()


def parameters(n: int, bins: int, m: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal parameters `(m, n_params)` in the real `dtype`."""
    return torch.randn(m, n_params(n, bins), generator=generator, dtype=torch.float64).to(dtype)


def plaquettes(side: int) -> Tensor:
    """The table `(4, side^2)` of the links of all plaquettes of a square: links U_0(x) of all sites, then U_1(x)."""
    site = torch.arange(side * side).reshape(side, side)
    return torch.stack((site, site.roll(-1, 0) + side**2, site.roll(-1, 1), site + side**2)).flatten(1)


def _turn(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)
