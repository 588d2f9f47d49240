"""Layers, each usable on its own: gauge couplings and their parts; affine couplings and the free field of scalars."""

from lattice_flows.errors import moved
from lattice_flows.layers.affine import AffineCoupling, FreeField
from lattice_flows.layers.base import ConjugationMap, Transform
from lattice_flows.layers.conjugation import SpectralMap
from lattice_flows.layers.context import ConvContext, PeriodicConv, frozen_features, n_frozen_features
from lattice_flows.layers.coupling import GaugeCoupling, LinkCoupling
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.layers.midpoint import MidpointStep
from lattice_flows.layers.partition import LinkPartition
from lattice_flows.layers.stout import StoutCoupling

__all__ = [
    "AffineCoupling", "ConjugationMap", "ConvContext", "FreeField", "GaugeCoupling", "GradientFlow",
    "LinkCoupling", "LinkPartition", "MidpointStep", "PeriodicConv", "SpectralMap", "StoutCoupling", "Transform",
    "frozen_features", "n_frozen_features",
]  # fmt: skip

__getattr__ = moved(
    __name__,
    {
        "BoundaryContext": "lattice_flows.planar.perceptron:BoundaryContext",
        "Coupling": "lattice_flows.planar.perceptron:BetaInput",
        "ResidualMap": "lattice_flows.planar.residual:ResidualMap",
        "TriangularMap": "lattice_flows.planar.triangular:TriangularMap",
        "boundary_features": "lattice_flows.planar.perceptron:boundary_features",
        "n_boundary_features": "lattice_flows.planar.perceptron:n_boundary_features",
        "PhaseMap": "SpectralMap(U1(), bins)",
    },
)
