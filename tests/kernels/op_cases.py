"""Every op as a function of SU(N) matrices `(m, N, N)`, m >= 4, on their device: one table for the laws of all."""

import math

import torch

from lattice_flows import kernels
from lattice_flows.kernels.circular_spline import n_params as n_circular_params
from lattice_flows.kernels.link_sweeps import OVER_RELAXATION
from lattice_flows.kernels.matrices import REAL
from lattice_flows.kernels.spectral_flow import n_params

TABLE = torch.tensor([[0, 1, 2], [2, 3, 0]])
LOOPS = torch.tensor([[[0.0, 0.7], [0.7, 0.0]], [[0.0, -0.1], [0.2, 0.0]]], dtype=torch.float64)
PLANES, STREAMS = torch.full((2, 2), 0.7, dtype=torch.float64), (torch.tensor([[1, 2]]), torch.tensor([0]))


def parameters(w, *shape):
    """Numbers from -1 to 1 in the precision of w."""
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count, dtype=torch.float64).to(w.device, REAL[w.dtype]).reshape(shape)


def numbers(w):
    """Uniform ones for the heat bath, of two attempts a subgroup."""
    pairs = w.shape[-1] * (w.shape[-1] - 1) // 2
    return torch.full((len(w), pairs, 2, 4), 0.3, dtype=REAL[w.dtype], device=w.device)


def logarithm(w):
    """-i log w, which does not depend on the frame."""
    phases, frame = kernels.unitary_eig(w)
    return frame * phases[:, None] @ frame.mH


def spline(w, matrices, inverse=False):
    params = parameters(w, len(w), n_params(w.shape[-1], 3))
    return kernels.spectral_flow(matrices, params, 3, inverse=inverse)


def field(w, extent=8, weights=PLANES):
    """The matrices in turn as links of one chain on a square, and what else sweeps and trajectories want of it."""
    links = w[torch.arange(2 * extent**2, device=w.device) % len(w)]
    return links.reshape(1, 2, extent, extent, *w.shape[1:]), (extent, extent), weights.to(w.device)


def cube(w):
    """The matrices in turn as links of one chain in three dimensions, and a tangent field."""
    links = w[torch.arange(3 * 4**3, device=w.device) % len(w)].reshape(1, 3, 4, 4, 4, *w.shape[1:])
    return links, links - links.mH, (4, 4, 4)


def streams(w):
    return [x.to(w.device) for x in STREAMS]


DERIVABLE = {
    "algebra_exp": lambda w: (kernels.algebra_exp(w - w.mH),),
    "circular_spline": lambda w: kernels.circular_spline(
        w[:, 0, 0].real, parameters(w, len(w), n_circular_params(3)), 3
    ),
    "link_products": lambda w: (kernels.link_products(w, TABLE.to(w.device), (True, False)),),
    "periodic_conv": lambda w: (kernels.periodic_conv(w.real[None], parameters(w, 2, len(w), 3, 3)),),
    "spectral_flow": lambda w: spline(w, w),
    "spectral_flow of the adjoint": lambda w: spline(w, w.mH, inverse=True),
    "spectral_power": lambda w: (kernels.spectral_power(w, 0.3),),
    "spectral_power of the adjoint": lambda w: (kernels.spectral_power(w.mH, 0.3),),
}
"""Those with a derivative: their outputs in a tuple."""
UNDERIVABLE = {
    "heat_bath": lambda w: kernels.heat_bath(w, w.mH, 1.5, numbers(w)),
    "link_flow": lambda w: kernels.link_flow(*field(w)[:2], [0.0, 0.1], math.inf, 0.1, PLANES[0, :1].to(w.device)),
    "link_forces": lambda w: kernels.link_forces(w, TABLE[None].to(w.device), ((True, False),), TABLE[0].to(w.device)),
    "link_operators": lambda w: kernels.link_operators(*field(w)[:2], parameters(w, 1, 8).double()),
    "link_slices": lambda w: kernels.link_slices(*cube(w)),
    "link_steps": lambda w: kernels.link_steps(*field(w)[:2], *(parameters(w, 1, n).double() / 9 for n in (1, 8))),
    "link_stout": lambda w: kernels.link_stout(
        w, TABLE[None].to(w.device), ((True, False),), TABLE[0].to(w.device), parameters(w, 1).abs().double() / 2
    ),
    "link_sums": lambda w: kernels.link_sums(w, TABLE[None].to(w.device), ((True, False),)),
    "link_sweeps": lambda w: kernels.link_sweeps(*field(w), [OVER_RELAXATION], *streams(w)),
    "link_trajectories": lambda w: kernels.link_trajectories(*field(w), [0.1, 0.1], 0.2, *streams(w)),
    "over_relaxation": lambda w: kernels.over_relaxation(w, w.mH),
    "special_unitary": lambda w: kernels.special_unitary(w + 0.3 * w.mH),
    "uniforms": lambda w: kernels.uniforms(*streams(w), 9, REAL[w.dtype]),
    "unitary_eig": logarithm,
}
ON_CPUS = {
    "link_sweeps with rectangles": lambda w: kernels.link_sweeps(*field(w, 12, LOOPS), [], *streams(w)),
    "link_trajectories with rectangles": lambda w: kernels.link_trajectories(
        *field(w, 12, LOOPS), [0.1, 0.1], 0.2, *streams(w)
    ),
}
"""Those that have no kernel for GPUs."""
DRAWN = ("link_trajectories", "link_trajectories with rectangles", "uniforms")
"""Those with random numbers, which are not the same in both precisions."""
