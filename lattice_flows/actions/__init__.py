"""Actions S(links) and their forces."""

from lattice_flows.actions.base import Action, ActionLike
from lattice_flows.actions.improved import DBW2, Iwasaki, Symanzik
from lattice_flows.actions.loops import LoopAction
from lattice_flows.actions.wilson import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group

__all__ = ["DBW2", "Action", "ActionLike", "Iwasaki", "LoopAction", "Symanzik", "Wilson", "build"]

ACTIONS = {"wilson": Wilson, "symanzik": Symanzik, "iwasaki": Iwasaki, "dbw2": DBW2}


def build(name: str, group: Group, beta: float, *, dim: int | None = None) -> Action:
    """The action called `name` in configs.

    Raises:
        InvalidInput: no such action, or beta is not a finite number > 0.

    Example:
        >>> from lattice_flows import U1
        >>> build("iwasaki", U1(), 2.0)
        Iwasaki(U(1), beta=2)
    """
    if name not in ACTIONS:
        raise InvalidInput(f"unknown action {name!r}; available: {', '.join(ACTIONS)}")
    return ACTIONS[name](group, beta, dim=dim)
