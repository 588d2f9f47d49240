"""spectral_flow in plain PyTorch: the definition of the op."""

import functools

import torch
from torch import Tensor

from lattice_flows.kernels import spectrum
from lattice_flows.kernels.define import gradients
from lattice_flows.kernels.splines import knots, n_knot_params, rational_quadratic
from lattice_flows.kernels.unitary_eig.reference import unitary_eig


def n_params(n: int, bins: int) -> int:
    """Parameters per matrix: a whole spline, and N - 2 whose two end slopes are taken from the first.

    Example:
        >>> n_params(2, bins=8), n_params(3, bins=8)
        (25, 48)
    """
    return n_knot_params(bins) + (n - 2) * (n_knot_params(bins) - 2)


def spectral_flow(w: Tensor, params: Tensor, bins: int, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """g = h(w) w^-1 and the log-determinant of h, or of its inverse; see `lattice_flows.kernels.spectral_flow`."""
    phases, frame = spectrum.eigenphases(w, unitary_eig)
    gap = spectrum.gaps(phases)
    pieces, logdet = (_mend if inverse else _break)(gap.roll(1, -1), _raw(params, w.shape[-1], bins), bins)
    new_gap = pieces.roll(-1, -1)
    logdet = logdet + spectrum.log_vandermonde_ratio(new_gap, gap)
    shift = spectrum.phases_from_gaps(new_gap - gap)
    return spectrum.displacement(w, shift, frame, gap, new_gap), logdet


def spectral_flow_backward(
    w: Tensor, params: Tensor, grad_g: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of w, its part tangent to the group, and of the parameters."""
    function = functools.partial(spectral_flow, bins=bins, inverse=inverse)
    grad_w, grad_params = gradients(function, (w, params), (grad_g, grad_logdet))
    return spectrum.tangent(w, grad_w), grad_params


def _raw(params: Tensor, n: int, bins: int) -> Tensor:
    """Unconstrained numbers `(..., N - 1, n_knot_params)` of every spline, the shared slopes filled in."""
    size, before_slopes = n_knot_params(bins), 2 * bins
    first, others = params[..., :size], params[..., size:].unflatten(-1, (n - 2, size - 2))
    shared = first[..., None, before_slopes : before_slopes + 1].expand(*others.shape[:-1], 1)
    others = torch.cat((others[..., :before_slopes], shared, others[..., before_slopes:], shared), dim=-1)
    return torch.cat((first.unsqueeze(-2), others), dim=-2)


def _break(piece: Tensor, raw: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """All splines at once: every coordinate is known."""
    left = piece.flip(-1).cumsum(-1).flip(-1)
    curve = knots(raw * (left[..., :-1] / left[..., :1]).unsqueeze(-1), bins)
    y, rest, log_slope = rational_quadratic(piece[..., :-1] / left[..., :-1], left[..., 1:] / left[..., :-1], curve)
    new_left = left[..., :1] * torch.cat((torch.ones_like(rest[..., :1]), rest.cumprod(-1)), dim=-1)
    new_piece = torch.cat((new_left[..., :-1] * y, new_left[..., -1:]), dim=-1)
    # R_1 does not change
    logdet = log_slope.sum(-1) + (new_left[..., 1:-1] / left[..., 1:-1]).log().sum(-1)
    return new_piece, logdet


def _mend(piece: Tensor, raw: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """One spline after the other: what is left of the original stick scales the next one's parameters."""
    left = piece.flip(-1).cumsum(-1).flip(-1)
    stick = left[..., 0]
    old_left, old_pieces, logdet = stick, [], torch.zeros_like(stick)
    for k in range(raw.shape[-2]):
        curve = knots(raw[..., k, :] * (old_left / stick).unsqueeze(-1), bins)
        x, rest, log_slope = rational_quadratic(
            piece[..., k] / left[..., k], left[..., k + 1] / left[..., k], curve, inverse=True
        )
        logdet = logdet + log_slope + (old_left / left[..., k]).log()
        old_pieces.append(old_left * x)
        old_left = old_left * rest
    return torch.stack((*old_pieces, old_left), dim=-1), logdet
