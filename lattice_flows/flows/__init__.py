"""Flows: a space, layers, and named architectures."""

from lattice_flows.errors import moved
from lattice_flows.flows.coupling_flows import affine, checkerboard, stripes
from lattice_flows.flows.flow import Flow, Prior, Weighted
from lattice_flows.flows.gradient_flows import gradient
from lattice_flows.flows.recipe import Recipe
from lattice_flows.flows.stout_flows import stout

__all__ = ["Flow", "Prior", "Recipe", "Weighted", "affine", "checkerboard", "gradient", "stout", "stripes"]

__getattr__ = moved(
    __name__,
    {
        "StochasticFlow": "lattice_flows.sampling.stochastic_flow:StochasticFlow",
        "hierarchical": "lattice_flows.planar.hierarchical:hierarchical",
        "transfer": "lattice_flows.planar.hierarchical:transfer",
        "HaarPrior": "the prior of a space, GaugeField(group, lattice).prior",
        "build": "Recipe.build of an entry of lattice_flows.config.ARCHITECTURES",
    },
)
