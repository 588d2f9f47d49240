"""Every op as a function of SU(N) matrices `(m, N, N)`, m >= 4, in their precision: one table for the laws of all."""

import torch

from lattice_flows import kernels
from lattice_flows.kernels.circular_spline import n_params as n_circular_params
from lattice_flows.kernels.matrices import REAL
from lattice_flows.kernels.spectral_flow import n_params

TABLE = torch.tensor([[0, 1, 2], [2, 3, 0]])


def parameters(count, w):
    """As many parameters for each of the matrices."""
    return torch.linspace(-1, 1, len(w) * count, dtype=REAL[w.dtype]).reshape(len(w), count)


def uniforms(w):
    pairs = w.shape[-1] * (w.shape[-1] - 1) // 2
    return torch.full((len(w), pairs, 2, 4), 0.3, dtype=REAL[w.dtype])


def logarithm(w):
    """-i log w, which does not depend on the frame."""
    phases, frame = kernels.unitary_eig(w)
    return frame * phases[:, None] @ frame.mH


DERIVABLE = {
    "algebra_exp": lambda w: (kernels.algebra_exp(w - w.mH),),
    "circular_spline": lambda w: kernels.circular_spline(w[:, 0, 0].real, parameters(n_circular_params(3), w), 3),
    "link_products": lambda w: (kernels.link_products(w, TABLE, (True, False)),),
    "spectral_flow": lambda w: kernels.spectral_flow(w, parameters(n_params(w.shape[-1], 3), w), 3),
    "spectral_flow of the adjoint": lambda w: kernels.spectral_flow(
        w.mH, parameters(n_params(w.shape[-1], 3), w), 3, inverse=True
    ),
    "spectral_power": lambda w: (kernels.spectral_power(w, 0.3),),
    "spectral_power of the adjoint": lambda w: (kernels.spectral_power(w.mH, 0.3),),
}
UNDERIVABLE = {
    "heat_bath": lambda w: kernels.heat_bath(w, w.mH, 1.5, uniforms(w)),
    "link_forces": lambda w: kernels.link_forces(w, TABLE[None], ((True, False),), TABLE[0]),
    "link_sums": lambda w: kernels.link_sums(w, TABLE[None], ((True, False),)),
    "over_relaxation": lambda w: kernels.over_relaxation(w, w.mH),
    "unitary_eig": logarithm,
}
