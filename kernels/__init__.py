"""Compute kernels: one op, one folder (see kernels/README.md).

The folder lies at the top of the repository and is imported as `lattice_flows.kernels`.
"""

from lattice_flows.kernels.circular_spline import circular_spline
from lattice_flows.kernels.spectral_flow import spectral_flow
from lattice_flows.kernels.unitary_eig.reference import unitary_eig

__all__ = ["circular_spline", "spectral_flow", "unitary_eig"]
