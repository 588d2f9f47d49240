"""Actions S(x) and their forces."""

from lattice_flows.actions.base import Action, ActionEntry, ActionLike, BetaSettings, OperatorAction
from lattice_flows.actions.loops import DBW2, Iwasaki, LoopAction, Symanzik, Wilson
from lattice_flows.actions.phi4 import Phi4
from lattice_flows.actions.weighted import WeightedWilson
from lattice_flows.errors import moved

__all__ = [
    "DBW2", "Action", "ActionEntry", "ActionLike", "BetaSettings", "Iwasaki", "LoopAction", "OperatorAction", "Phi4",
    "Symanzik", "WeightedWilson", "Wilson",
]  # fmt: skip

__getattr__ = moved(__name__, {"build": "build of an entry of lattice_flows.config.ACTIONS"})
