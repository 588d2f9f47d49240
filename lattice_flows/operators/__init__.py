"""Operators: sums over loops with value and force, the terms of actions, and sums over products of loops."""

from lattice_flows.operators.algebra import LoopAlgebra
from lattice_flows.operators.base import Operator
from lattice_flows.operators.loops import LoopSum, plaquettes, rectangles
from lattice_flows.operators.pairs import NextToLeading
from lattice_flows.operators.production import VectorField, WeightedSum, merged, production, vector_field
from lattice_flows.operators.products import LoopProducts, next_to_leading
from lattice_flows.operators.slices import SliceOperators

__all__ = [
    "LoopAlgebra", "LoopProducts", "LoopSum", "NextToLeading", "Operator", "SliceOperators", "VectorField",
    "WeightedSum", "merged", "next_to_leading", "plaquettes", "production", "rectangles", "vector_field",
]  # fmt: skip
