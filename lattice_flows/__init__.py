"""Gauge-equivariant normalizing flows inside exact Markov chains, for U(1) and SU(N) lattice gauge theory."""

from lattice_flows.groups import SU, U1

__version__ = "0.1.0"

__all__ = ["SU", "U1", "__version__"]
