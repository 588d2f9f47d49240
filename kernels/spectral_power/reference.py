"""spectral_power in plain PyTorch: the definition of the op."""

import math

import torch
from torch import Tensor

from lattice_flows.kernels import spectrum
from lattice_flows.kernels.matrices import adjoint, project


def spectral_power(w: Tensor, exponent: Tensor) -> Tensor:
    """w^s `(M, N, N)` of w `(M, N, N)` for exponents s `(M,)`; see `lattice_flows.kernels.spectral_power`."""
    phases, frame = spectrum.eigenphases(w)
    return (frame * spectrum.turn(exponent.unsqueeze(-1) * phases).unsqueeze(-2)) @ adjoint(frame)


def spectral_power_backward(w: Tensor, exponent: Tensor, grad: Tensor) -> Tensor:
    """The gradient of w, its part tangent to the group, `(M, N, N)`; the formula is in the README beside this file."""
    phases, frame = spectrum.eigenphases(w)
    s = exponent.unsqueeze(-1)
    old, new = spectrum.turn(phases / 2).unsqueeze(-1), spectrum.turn(s * phases / 2).unsqueeze(-1)
    x = (new * new.mT).conj_physical() * (adjoint(frame) @ grad @ frame)
    x = project(_divided_differences(spectrum.gaps(phases), s) * (x - adjoint(x)) / 2)
    return frame @ (old * old.mT * x) @ adjoint(frame)


def _divided_differences(gap: Tensor, s: Tensor) -> Tensor:
    """sin(s arc / 2) / sin(arc / 2) `(M, N, N)` of the arcs between phases, and s on the diagonal.

    The shorter of the arc and the rest of the circle has the digits. Where that is the rest r,
    sin(s arc / 2) = sin(pi s) cos(s r / 2) - cos(pi s) sin(s r / 2), in which sin(pi s) is exact for integers s.
    """
    arc, rest = spectrum.arcs(gap)
    half = torch.minimum(arc, rest) / 2
    turns = s.round()
    sign, part = 1 - 2 * turns.remainder(2), math.pi * (s - turns)
    outer = sign * (part.sin() * (s * half).cos() - part.cos() * (s * half).sin())
    ratio = torch.where(arc <= rest, (s * half).sin(), outer) / half.sin()
    i, j = spectrum.pairs(gap.shape[-1])
    table = torch.diag_embed(s.expand_as(gap))
    table[..., i, j] = table[..., j, i] = ratio
    return table
