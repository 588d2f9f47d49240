"""What formats of gauge configurations share: one configuration of SU(N) in four dimensions, and statements about it.

Files run over sites with x fastest, then y, z, t. At each site they run over the directions x, y, z, t, and in each
matrix over columns, then rows. Our directions and axes 0, 1, 2, 3 are x, y, z, t of the file: the last one is time.
"""

import decimal
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.observables import average_plaquette

AXES = (4, 3, 2, 1, 0, 5, 6)
# of averages in headers, which may be sums that were made in 32 bits
TOLERANCE = 1e-5
DEFECT = 1e-4
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
    links = torch.from_numpy(data.astype(data.dtype.newbyteorder("="))).permute(AXES).contiguous()
    remedy = "the file is damaged or of another byte order or group"
    if stored.checksum:
        others = "the checksum is right, so the file holds other matrices, such as smeared links, momenta or forces"
        remedy = others if stored.checksum.right else str(stored.checksum)
    check_group(links, remedy)
    averages, notes = measure(links), list(stored.notes)
    statements = [stored.checksum] if stored.checksum else []
    for name, (place, text) in stored.averages.items():
        if (value := average(text)) is None:
            notes.append(f"{place} is {text!r}, no number: it is not verified")
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


def measure(links: Tensor) -> dict[str, float]:
    """Return the averages of Re tr P / N and Re tr U / N that headers hold."""
    space = GaugeField(SU(links.shape[-1]), Lattice(links.shape[1:5]))
    exact = links.to(torch.complex128)
    return {
        "plaquette": float(average_plaquette(space)(exact)),
        "link_trace": float(space.group.retrace(exact).mean()),
    }


def matrices(data, dtype: np.dtype, extents: tuple[int, ...], rows: int, n: int) -> np.ndarray:
    """Return the bytes of a file as `(t, z, y, x, 4, rows, N)`; raise InvalidInput if there are more or fewer."""
    shape = (*reversed(Lattice(extents).extents), 4, rows, n)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise wrong_size(expected, extents, len(data))
    return np.frombuffer(data, dtype).reshape(shape)


def wrong_size(expected: int, extents: tuple[int, ...], found: int) -> InvalidInput:
    """Return the error of a file that holds more or fewer bytes of links than its header says."""
    return InvalidInput(
        f"{expected} bytes of links are expected on {Lattice(extents)} sites, got {found}: "
        "the file is truncated or its header wrong, get another copy"
    )


def byte_order(links: Callable[[str], np.ndarray]) -> str:
    """Return the byte order in which data are links of the group, `>` if none; `links(order)` returns them."""
    return "<" if not _defect(links(">")) <= DEFECT and _defect(links("<")) <= DEFECT else ">"


def time_first(data: np.ndarray) -> np.ndarray:
    """Return data `(t, x, y, z, [t, x, y, z], N, N)` in the order `(t, z, y, x, [x, y, z, t], N, N)`."""
    return data.transpose(0, 3, 2, 1, 4, 5, 6)[..., [1, 2, 3, 0], :, :]


def turned_sum(words: np.ndarray, period: int) -> int:
    """Return the exclusive or of 32-bit words, word k turned left by k mod `period` bits."""
    # shifted in 64 bits; the upper half holds the bits that a turn of 32 bits brings back
    turns = np.arange(len(words), dtype=np.uint64) % np.uint64(period)
    both = int(np.bitwise_xor.reduce(words.astype(np.uint64) << turns))
    return both >> 32 ^ both & 0xFFFFFFFF


def to_file_order(links: Tensor) -> np.ndarray:
    """Return links `(4, x, y, z, t, N, N)` as big-endian data `(t, z, y, x, 4, N, N)`; refuse all other links."""
    shape = tuple(links.shape)
    if len(shape) != 7 or shape[0] != 4 or shape[5] != shape[6] or shape[5] < 2 or not links.is_complex():
        raise InvalidInput(
            f"the format holds one configuration (4, x, y, z, t, N, N) of SU(N) in four dimensions, got {links.dtype} "
            f"{shape}: take one configuration of a batch, or store an HDF5 ensemble"
        )
    check_group(links, "remove numbers that are not finite, and reunitarise")
    data = links.detach().cpu().permute(AXES).numpy()
    return data.astype(data.dtype.newbyteorder(">"), order="C")


def check_group(links: Tensor, remedy: str) -> None:
    """Raise InvalidInput unless links `(4, x, y, z, t, N, N)` are in SU(N); say what they are instead."""
    group = SU(links.shape[-1])
    defects = group.defect(links)
    defect = float(defects.max())
    if defect <= DEFECT:
        return
    zero = (links == 0).flatten(-2).all(-1)
    if zero.any() and float(defects[~zero].max() if not zero.all() else torch.nan) <= DEFECT:
        remedy = "some links are zero, as open boundaries have them, which periodic lattices do not hold"
    elif float((torch.linalg.det(links).abs() - 1).abs().max()) <= DEFECT and _unitary(links):
        remedy = "they are unitary with another determinant, as with phases of staggered fermions or of a boundary"
    raise InvalidInput(f"links must be in {group} to {DEFECT:g}, got a defect of {defect:g}: {remedy}")


def _unitary(links: Tensor) -> bool:
    eye = torch.eye(links.shape[-1], dtype=links.dtype)
    return bool(((links.mH @ links - eye).abs() <= DEFECT).all())


def _defect(data: np.ndarray) -> float:
    with np.errstate(all="ignore"):  # of numbers in the wrong byte order
        exact = data.astype(np.complex128)
    return float(SU(data.shape[-1]).defect(torch.from_numpy(exact)).max())
