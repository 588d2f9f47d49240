"""Gauge groups behind one interface: U(1), SU(N) for every N >= 2, and groups of your own."""

import re
from collections.abc import Callable

from lattice_flows.errors import InvalidInput
from lattice_flows.groups.base import Group
from lattice_flows.groups.matrix import MatrixGroup
from lattice_flows.groups.su import SU
from lattice_flows.groups.u1 import U1

__all__ = ["SU", "U1", "Group", "MatrixGroup", "from_name", "register"]

_FAMILIES: dict[str, Callable[[int], Group | None]] = {
    "U": lambda n: U1() if n == 1 else None,
    "SU": lambda n: SU(n) if n >= 2 else None,
}


def register(family: str, make: Callable[[int], Group | None]) -> None:
    """Let configs name the groups `FAMILY(n)`.

    Args:
        make: n -> the group, or None where there is none.

    Raises:
        InvalidInput: another family has the name, or the name is not made of letters.
    """
    family = family.upper()
    if not family.isalpha() or _FAMILIES.get(family, make) is not make:
        raise InvalidInput(f"a family of groups needs a new name made of letters, got {family!r}")
    _FAMILIES[family] = make


def from_name(name: str) -> Group:
    """The group called `name`: `U(1)` or `SU(N)`, with or without the parentheses.

    Raises:
        InvalidInput: no such group.

    Example:
        >>> from_name("SU(3)"), from_name("u1")
        (SU(N=3), U1())
    """
    match = re.fullmatch(r"([A-Za-z]+)(?:\((\d{1,3})\)|(\d{1,3}))", name.strip())
    make = _FAMILIES.get(match[1].upper()) if match else None
    group = make(int(match[2] or match[3])) if match and make else None
    if group is None:
        others = "".join(f", {family}(n)" for family in _FAMILIES if family not in ("U", "SU"))
        raise InvalidInput(f"unknown group {name!r}; available: U(1), SU(N) for every N >= 2{others}")
    return group
