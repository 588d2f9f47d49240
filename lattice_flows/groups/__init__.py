"""Gauge groups: U(1) and SU(N) for every N >= 2 behind one interface."""

import re

from lattice_flows.errors import InvalidInput
from lattice_flows.groups.base import Group
from lattice_flows.groups.su import SU
from lattice_flows.groups.u1 import U1

__all__ = ["SU", "U1", "Group", "from_name"]


def from_name(name: str) -> Group:
    """The group called `name`: `U(1)` or `SU(N)`, with or without the parentheses.

    Raises:
        InvalidInput: no such group.

    Example:
        >>> from_name("SU(3)"), from_name("u1")
        (SU(N=3), U1())
    """
    match = re.fullmatch(r"(U|SU)\(?(\d+)\)?", name.strip(), flags=re.IGNORECASE)
    if match:
        family, n = match[1].upper(), int(match[2])
        if (family, n) == ("U", 1):
            return U1()
        if family == "SU" and n >= 2:
            return SU(n)
    raise InvalidInput(f"unknown group {name!r}; available: U(1), and SU(N) for every N >= 2")
