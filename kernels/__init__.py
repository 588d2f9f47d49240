"""Compute kernels: one op, one folder (see kernels/README.md).

The folder lies at the top of the repository and is imported as `lattice_flows.kernels`.
"""

from lattice_flows.kernels.unitary_eig.reference import unitary_eig

__all__ = ["unitary_eig"]
