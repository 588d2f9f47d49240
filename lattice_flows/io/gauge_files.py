"""Links, checks and facts that the NERSC and ILDG formats share: one configuration of SU(N) in four dimensions.

Files run over sites with x fastest, then y, z, t. At each site they run over the directions x, y, z, t, and in each
matrix over columns, then rows. Our directions and axes 0, 1, 2, 3 are x, y, z, t of the file: the last one is time.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.observables import average_plaquette

AXES = (4, 3, 2, 1, 0, 5, 6)
# of files in 32 bits, whose headers may hold sums that were made in 32 bits
TOLERANCE = 1e-5
DEFECT = 1e-4
# the kind of checksums, for `as_number`
hexadecimal = functools.partial(int, base=16)


def to_file_order(links: Tensor) -> np.ndarray:
    """Return links `(4, x, y, z, t, N, N)` as big-endian data `(t, z, y, x, 4, N, N)`; refuse all other links."""
    shape = tuple(links.shape)
    if len(shape) != 7 or shape[0] != 4 or shape[5] != shape[6] or shape[5] < 2 or not links.is_complex():
        raise InvalidInput(
            f"the format holds one configuration (4, x, y, z, t, N, N) of SU(N) in four dimensions, got {links.dtype} "
            f"{shape}: take one configuration of a batch, or store an HDF5 ensemble"
        )
    _check_group(links, "remove numbers that are not finite, and reunitarise")
    data = links.detach().cpu().permute(AXES).numpy()
    return data.astype(data.dtype.newbyteorder(">"), order="C")


def verified_links(
    form: str, data: np.ndarray, stated: Mapping[str, tuple[str, str]], verified: Sequence[str], **words: str
) -> tuple[Tensor, dict[str, Any]]:
    """Return the links and the facts that `read_configuration` promises; refuse links that contradict the file.

    Args:
        data: `(t, z, y, x, 4, N, N)` in any byte order.
        stated: the averages in the header: name of a fact -> name and text in the file.
        verified: statements of the file that were checked before.
    """
    links = torch.from_numpy(data.astype(data.dtype.newbyteorder("="))).permute(AXES).contiguous()
    _check_group(links, "the file is damaged or of another byte order or group")
    measured = measure(links)
    for fact, (name, text) in stated.items():
        if not abs(as_number(name, text) - measured[fact]) <= TOLERANCE:
            raise InvalidInput(
                f"{name} is {text} in the header and {measured[fact]:.8f} of the links: "
                "the file is damaged, get another copy"
            )
    facts = {
        "format": form,
        "group": str(SU(links.shape[-1])),
        "extents": tuple(links.shape[1:5]),
        "precision": 32 if links.dtype == torch.complex64 else 64,
        **measured,
        "verified": (*verified, *stated),
        **words,
    }
    return links, facts


def measure(links: Tensor) -> dict[str, float]:
    """Return the averages of Re tr P / N and Re tr U / N that headers hold."""
    space = GaugeField(SU(links.shape[-1]), Lattice(links.shape[1:5]))
    exact = links.to(torch.complex128)
    return {
        "plaquette": float(average_plaquette(space)(exact)),
        "link_trace": float(space.group.retrace(exact).mean()),
    }


def as_number(name: str, text: str | None, kind: Callable[[Any], Any] = float) -> Any:
    """Return a number in a header; raise InvalidInput if it is missing, or none."""
    try:
        return kind(text)
    except (TypeError, ValueError):
        word = "nothing" if text is None else repr(text)
        raise InvalidInput(f"the header must state {name} as a number, got {word}: get another copy") from None


def file_extents(names: Sequence[str], header: dict[str, str]) -> tuple[int, ...]:
    """Return the four extents that a header states; raise InvalidInput if they are missing or less than 2."""
    return Lattice([as_number(name, header.get(name), int) for name in names]).extents


def matrices(data, dtype: np.dtype, extents: tuple[int, ...], rows: int, n: int) -> np.ndarray:
    """Return the bytes of a file as `(t, z, y, x, 4, rows, N)`; raise InvalidInput if there are more or fewer."""
    shape = (*reversed(extents), 4, rows, n)
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(data) != expected:
        raise InvalidInput(
            f"{expected} bytes of links are expected on {Lattice(extents)} sites, got {len(data)}: "
            "the file is truncated or its header wrong, get another copy"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _check_group(links: Tensor, remedy: str) -> None:
    group = SU(links.shape[-1])
    defect = float(group.defect(links).max())
    if not defect <= DEFECT:
        raise InvalidInput(f"links must be in {group} to {DEFECT:g}, got a defect of {defect:g}: {remedy}")
