"""Layers, each usable on its own: conjugation maps, link partitions, context networks and the gauge coupling."""

from lattice_flows.layers.base import ConjugationMap, Transform
from lattice_flows.layers.conjugation import PhaseMap, SpectralMap
from lattice_flows.layers.context import ConvContext, PeriodicConv, frozen_features, n_frozen_features
from lattice_flows.layers.coupling import GaugeCoupling
from lattice_flows.layers.partition import LinkPartition

__all__ = [
    "ConjugationMap",
    "ConvContext",
    "GaugeCoupling",
    "LinkPartition",
    "PeriodicConv",
    "PhaseMap",
    "SpectralMap",
    "Transform",
    "frozen_features",
    "n_frozen_features",
]
