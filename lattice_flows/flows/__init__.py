"""Flows: a prior, layers, and named architectures."""

from lattice_flows.flows.builders import build, checkerboard, stripes
from lattice_flows.flows.flow import Flow, Weighted
from lattice_flows.flows.hierarchical import hierarchical, transfer
from lattice_flows.flows.prior import HaarPrior

__all__ = ["Flow", "HaarPrior", "Weighted", "build", "checkerboard", "hierarchical", "stripes", "transfer"]
