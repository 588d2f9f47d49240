"""spectral_flow: the spectral map of SU(N), which moves the eigenphases of a matrix at fixed eigenvectors."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, differentiable, like
from lattice_flows.kernels.matrices import REAL, check_matrices, not_unitary
from lattice_flows.kernels.spectral_flow import reference
from lattice_flows.kernels.spectral_flow.reference import n_params
from lattice_flows.kernels.splines import check_bins

__all__ = ["n_params", "spectral_flow"]

LARGEST = 8  # the largest N that there is a compiled kernel for
LARGEST_ON_GPU = 3  # and a Triton kernel
KEEP_FRAMES_FROM = 5  # from this N on the backward pass gets the eigenvectors; below, it computes them more quickly


def spectral_flow(w: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """g = h(w) w^-1 and the log-determinant of h relative to Haar measure, or the same of h^-1.

    h leaves the eigenvectors of w and maps the gaps between its eigenphases by rational-quadratic splines: the maths is
    in the README beside this file. Once differentiable in w and params; the gradient of w is its part tangent to SU(N).

    Shapes: w `(..., N, N)` in SU(N), complex; params `(..., n_params(N, bins))`, real, of the same precision
    -> g `(..., N, N)`, logdet `(...)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or the number of bins is none from 1 to 64.
        NumericalFailure: w holds NaN or Inf, or is far from unitary.

    Source: D. Boyda et al., 2008.05456; C. Durkan et al., 1906.04032.

    Example:
        >>> import torch
        >>> w = torch.diag(torch.exp(1j * torch.tensor([0.5, -0.2, -0.3])))
        >>> g, logdet = spectral_flow(w, torch.zeros(n_params(3, bins=8)), bins=8)  # the identity map
        >>> bool((g - torch.eye(3)).abs().max() < 1e-6), bool(logdet.abs() < 1e-5)
        (True, True)
    """
    check_bins(bins)
    batch, n = check_matrices(w, "spectral_flow needs")
    expected, real = (*batch, n_params(n, bins)), REAL[w.dtype]
    if params.shape != expected or params.dtype != real:
        raise InvalidInput(
            f"the parameters must be {real} of shape {expected} for {bins} bins and these matrices, "
            f"got {params.dtype} of shape {tuple(params.shape)}"
        )
    # Two batch axes, so that parameters that come plane by plane, as from a convolution, need not be copied.
    rows = batch[-1] if batch else 1
    outer = batch[:-1].numel()
    keep = n >= KEEP_FRAMES_FROM and torch.is_grad_enabled() and (w.requires_grad or params.requires_grad)
    g, logdet, _ = _derivable(
        w.reshape(outer, rows, n, n), params.reshape(outer, rows, expected[-1]), bins, inverse, keep
    )
    return g.reshape(w.shape), logdet.reshape(batch)


def _new_frames(w: Tensor, params: Tensor, keep: bool) -> Tensor:
    """Room for the eigenvectors of all matrices, in blocks of as many as the CPU has lanes, at most 16."""
    n = w.shape[-1]
    blocks = w.shape[0] * w.shape[1] + 16
    return params.new_empty(blocks * (2 * n * n + 3 * n + 3) if keep else 0)


def _with_frames(implementation):
    """The op's results are g, logdet and, with `keep`, room for frames, which the compiled kernel alone uses."""

    def forward(w: Tensor, params: Tensor, bins: int, inverse: bool, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        return *implementation(w, params, bins, inverse), _new_frames(w, params, keep)

    return forward


def _without_frames(implementation):
    def backward(
        w: Tensor, params: Tensor, frames: Tensor, grad_g: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        return implementation(w, params, grad_g, grad_logdet, bins, inverse)

    return backward


_forward = define_op(
    reference.spectral_flow,
    lambda w, params, bins, inverse, keep: (like(w), params.new_empty(w.shape[:2]), _new_frames(w, params, keep)),
    lambda w, params, bins, inverse, keep, *out: (
        w.contiguous(), params, *params.stride(), *w.shape[:2], bins, inverse, *out
    ),
    largest=LARGEST, failed=not_unitary, adapt=_with_frames,
)  # fmt: skip
_backward = define_op(
    reference.spectral_flow_backward,
    lambda w, params, *_: (like(w), torch.empty_like(params)),
    lambda w, params, frames, grad_g, grad_logdet, bins, inverse, grad_w, grad_params: (
        w.contiguous(), params, *params.stride(), frames, grad_g.contiguous(), grad_logdet.contiguous(), *w.shape[:2],
        bins, inverse, grad_w, grad_params, *grad_params.stride(),
    ),
    largest=LARGEST, failed=not_unitary, adapt=_without_frames,
)  # fmt: skip
_derivable = differentiable(_forward, _backward, tensors=2, numbers=2, kept=1)
