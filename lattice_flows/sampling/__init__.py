"""Markov chains with the exact target."""

from lattice_flows.sampling.base import ChainState, Sampler
from lattice_flows.sampling.independence import IndependenceMetropolis, Proposals, accept

__all__ = ["ChainState", "IndependenceMetropolis", "Proposals", "Sampler", "accept"]
