"""Layers, each usable on its own: conjugation maps, link partitions, context networks and the gauge coupling."""

from lattice_flows.layers.base import ConjugationMap, Transform
from lattice_flows.layers.conjugation import PhaseMap, SpectralMap
from lattice_flows.layers.context import (
    ConvContext,
    PeriodicConv,
    boundary_features,
    frozen_features,
    n_boundary_features,
    n_frozen_features,
)
from lattice_flows.layers.coupling import GaugeCoupling
from lattice_flows.layers.partition import LinkPartition
from lattice_flows.layers.perceptron import BoundaryContext, Coupling
from lattice_flows.layers.residual import ResidualMap
from lattice_flows.layers.triangular import TriangularMap

__all__ = [
    "BoundaryContext",
    "ConjugationMap",
    "ConvContext",
    "Coupling",
    "GaugeCoupling",
    "LinkPartition",
    "PeriodicConv",
    "PhaseMap",
    "ResidualMap",
    "SpectralMap",
    "Transform",
    "TriangularMap",
    "boundary_features",
    "frozen_features",
    "n_boundary_features",
    "n_frozen_features",
]
