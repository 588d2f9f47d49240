"""Compute kernels: one op, one folder (see kernels/README.md).

The folder lies at the top of the repository and is imported as `lattice_flows.kernels`.
"""

from lattice_flows.kernels.algebra_exp import algebra_exp
from lattice_flows.kernels.circular_spline import circular_spline
from lattice_flows.kernels.heat_bath import heat_bath, over_relaxation
from lattice_flows.kernels.link_flow import link_flow
from lattice_flows.kernels.link_operators import link_operators, link_steps
from lattice_flows.kernels.link_products import link_products
from lattice_flows.kernels.link_slices import link_slices
from lattice_flows.kernels.link_stout import link_stout
from lattice_flows.kernels.link_sums import link_forces, link_sums
from lattice_flows.kernels.link_sweeps import link_sweeps
from lattice_flows.kernels.link_trajectories import link_trajectories
from lattice_flows.kernels.periodic_conv import periodic_conv
from lattice_flows.kernels.special_unitary import special_unitary
from lattice_flows.kernels.spectral_flow import spectral_flow
from lattice_flows.kernels.spectral_power import spectral_power
from lattice_flows.kernels.uniforms import uniforms
from lattice_flows.kernels.unitary_eig import unitary_eig

__all__ = [
    "algebra_exp",
    "circular_spline",
    "heat_bath",
    "link_flow",
    "link_forces",
    "link_operators",
    "link_products",
    "link_slices",
    "link_steps",
    "link_stout",
    "link_sums",
    "link_sweeps",
    "link_trajectories",
    "over_relaxation",
    "periodic_conv",
    "special_unitary",
    "spectral_flow",
    "spectral_power",
    "uniforms",
    "unitary_eig",
]
