"""What a file states about its links, what the user says about it, and what the links say."""

import decimal
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU
from lattice_flows.io.gauge import layout
from lattice_flows.lattice import GaugeField, Lattice

# of averages in headers, which may be sums that were made in 32 bits
TOLERANCE = 1e-5
ORDERS = {"big": ">", "little": "<"}
CHECKS = ("checksum", "boundary")


@dataclass(frozen=True)
class Given:
    """What the user says about a file.

    Args:
        group: such as `SU(3)`, where the file does not state it.
        extents: x, y, z, t, where the file does not state them.
        precision: 32 or 64, where the file does not state it.
        byte_order: `big` or `little`, of links without a header.
        ignore: `checksum` accepts a wrong checksum, `boundary` reads a NERSC file of antiperiodic boundary conditions.

    Raises:
        InvalidInput: another value.
    """

    group: str | None = None
    extents: Sequence[int] | None = None
    precision: int | None = None
    byte_order: str | None = None
    ignore: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.group is not None and not re.fullmatch(r"SU\([1-9]\d?\)", self.group):
            raise InvalidInput(f"gauge files hold links of a group such as SU(3), got {self.group!r}")
        if any(not 2 <= extent < 2**31 for extent in self.extents or ()):
            raise InvalidInput("extents are integers from 2 to 2^31")
        if self.precision not in (None, 32, 64):
            raise InvalidInput(f"the precision is 32 or 64 bits, got {self.precision!r}")
        if self.byte_order not in (None, *ORDERS):
            raise InvalidInput(f"the byte order is big or little, got {self.byte_order!r}")
        if others := set(self.ignore) - set(CHECKS):
            raise InvalidInput(f"checks that can be ignored are {' and '.join(CHECKS)}, got {', '.join(others)}")


@dataclass(frozen=True)
class Statement:
    """What a file states about its links, and what the links say.

    Args:
        name: `checksum`, `plaquette` or `link_trace`.
        place: the name in the file.
        stated, found: the two values.
        right: whether they agree.
        remedy: what to do where they do not.
    """

    name: str
    place: str
    stated: str
    found: str
    right: bool
    remedy: str = "the file is damaged, get another copy"

    def __str__(self) -> str:
        return f"{self.place} is {self.stated} in the file and {self.found} of the links: {self.remedy}"


@dataclass(frozen=True)
class Stored:
    """What a reader finds in a file.

    Args:
        format: its name.
        data: links `(t, z, y, x, 4, N, N)` in any byte order.
        checksum: the statement, where there is one.
        averages: `plaquette` and `link_trace`, where they are stated -> name and text in the file.
        tolerance: of the averages.
        words: facts that the format has room for.
        notes: sentences about what was not read or not verified.
    """

    format: str
    data: np.ndarray
    checksum: Statement | None = None
    averages: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    words: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class GaugeFile:
    """One configuration, and what its file states about it.

    Args:
        links: `(4, x, y, z, t, N, N)` in the precision of the file.
        format: the name of the format.
        averages: `plaquette` and `link_trace` of the links, averages of Re tr P / N and Re tr U / N.
        statements: those of the file that could be compared with the links.
        words: facts that the format has room for, such as `lfn` or `ensemble_id`.
        notes: sentences about what was not read or not verified.
    """

    links: Tensor
    format: str
    averages: dict[str, float]
    statements: tuple[Statement, ...]
    words: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def space(self) -> GaugeField:
        """Group and lattice."""
        return GaugeField(SU(self.links.shape[-1]), Lattice(self.links.shape[1:5]))

    @property
    def facts(self) -> dict[str, Any]:
        """What `read_configuration` tells of the file."""
        return {
            "format": self.format,
            "group": str(self.space.group),
            "extents": self.space.lattice.extents,
            "precision": 32 if self.links.dtype == torch.complex64 else 64,
            **self.averages,
            "verified": tuple(statement.name for statement in self.statements if statement.right),
            **self.words,
        }


def verified(stored: Stored, given: Given) -> GaugeFile:
    """Return the links of a file beside its statements; raise InvalidInput if they are not links, or not as given."""
    data = stored.data
    links = torch.from_numpy(data.astype(data.dtype.newbyteorder("="))).permute(layout.AXES).contiguous()
    remedy = "the file is damaged or of another byte order or group"
    if stored.checksum:
        others = "the checksum is right, so the file holds other matrices, such as smeared links, momenta or forces"
        remedy = others if stored.checksum.right else str(stored.checksum)
    layout.check_group(links, remedy)
    averages, notes = layout.measure(links), list(stored.notes)
    statements = [stored.checksum] if stored.checksum else []
    for name, (place, text) in stored.averages.items():
        if (value := average(text)) is None:
            notes.append(f"{place} is {text[:40]!r}, no number: it is not verified")
            continue
        right = abs(value[0] - averages[name]) <= stored.tolerance + value[1]
        statements.append(Statement(name, place, text, f"{averages[name]:.8f}", right))
    file = GaugeFile(links, stored.format, averages, tuple(statements), stored.words, tuple(notes))
    if given.byte_order is not None and stored.format != "raw":
        raise InvalidInput(f"the format {stored.format} knows its byte order: leave the option out")
    for name in ("group", "extents", "precision"):
        said, fact = getattr(given, name), file.facts[name]
        if said is not None and fact != (tuple(said) if name == "extents" else said):
            raise InvalidInput(f"the file is of {name} {fact}, not {said}: leave the option out")
    return file


def average(text: str) -> tuple[float, float] | None:
    """Return a decimal number and half a unit of its last digit, at most .05; None where there is no number.

    Example:
        >>> average("0.59"), average("plenty")
        ((0.59, 0.005), None)
    """
    try:
        if len(text) > 64:
            return None
        exponent = decimal.Decimal(text).as_tuple().exponent
        return float(text), 0.5 * 10.0 ** min(exponent, -1) if isinstance(exponent, int) else 0.0
    except (ArithmeticError, ValueError):
        return None


def states(text: str, number: int) -> bool:
    """Return whether a text is a number of 32 bits in hexadecimal, with zeros or 0x before it or without."""
    return re.fullmatch("(0[xX])?0*[0-9a-fA-F]{1,8}", text) is not None and int(text, 16) == number


def whole_number(name: str, text: str | None) -> int:
    """Return a number in a header; raise InvalidInput if it is missing, or none of at most nine digits."""
    if text is None or not re.fullmatch("[+-]?[0-9]{1,9}", text):
        word = "nothing" if text is None else repr(text[:40])
        raise InvalidInput(f"the header must state {name} as a number, got {word}: get another copy")
    return int(text)
