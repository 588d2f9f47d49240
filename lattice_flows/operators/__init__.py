"""Operators: sums over loops with value and force, the terms of actions."""

from lattice_flows.operators.base import Operator
from lattice_flows.operators.loops import LoopSum, plaquettes, rectangles

__all__ = ["LoopSum", "Operator", "plaquettes", "rectangles"]
