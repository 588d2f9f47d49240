"""What the formats for single four-dimensional SU(N) configurations share: order, checks, and what is said of a file.

Files run over sites with x fastest, then y, z, t, at each site over the directions x, y, z, t, and in each matrix over
columns, then rows. Our directions and axes 0, 1, 2, 3 are x, y, z, t of the file: the last direction is time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites
from lattice_flows.groups import SU
from lattice_flows.measurement import average_plaquette

AXES = (4, 3, 2, 1, 0, 5, 6)
# of files in 32 bits, whose headers may hold sums that were made in 32 bits
TOLERANCE = 1e-5
DEFECT = 1e-4


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The content of a file, or its first `size` bytes.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise InvalidInput(f"cannot read the configuration: {error.strerror} ({path})") from error


def to_file_order(links: Tensor) -> np.ndarray:
    """Links `(4, x, y, z, t, N, N)` as `(t, z, y, x, 4, N, N)`.

    Raises:
        InvalidInput: the links are no single configuration of SU(N) in four dimensions.
    """
    shape = tuple(links.shape)
    if len(shape) != 7 or shape[0] != 4 or shape[5] != shape[6] or shape[5] < 2 or not links.is_complex():
        raise InvalidInput(
            f"the format holds one configuration (4, x, y, z, t, N, N) of SU(N) in four dimensions, got {links.dtype} "
            f"{shape}: take one configuration of a batch, or store an HDF5 ensemble"
        )
    _check_group(links, SU(shape[-1]), "remove what is not finite, and reunitarise")
    return links.detach().cpu().permute(AXES).contiguous().numpy()


def from_file_order(data: np.ndarray, path: Path) -> Tensor:
    """Links `(4, x, y, z, t, N, N)` of data `(t, z, y, x, 4, N, N)` in any byte order.

    Raises:
        InvalidInput: some matrix is not in SU(N).
    """
    links = torch.from_numpy(data.astype(data.dtype.newbyteorder("="))).permute(AXES).contiguous()
    _check_group(links, SU(links.shape[-1]), f"the file is damaged or of another byte order or group ({path})")
    return links


def measure(links: Tensor) -> dict[str, float]:
    """The averages of Re tr P / N and Re tr U / N that headers hold."""
    group = SU(links.shape[-1])
    exact = links.to(torch.complex128)
    return {
        "plaquette": float(average_plaquette(group, dim=4)(exact)),
        "link_trace": float(group.retrace(exact).mean()),
    }


def verify(name: str, stated: str, found: float, path: Path) -> str:
    """The name, if the number that a header states is that of the links.

    Raises:
        InvalidInput: it is not.
    """
    if not abs(as_number(name, stated, path) - found) <= TOLERANCE:
        raise InvalidInput(
            f"{name} is {stated} in the header and {found:.8f} of the links: "
            f"the file is damaged, get another copy ({path})"
        )
    return name


def as_number(name: str, text: str | None, path: Path, kind: Callable[[Any], Any] = float) -> Any:
    """A number in a header.

    Raises:
        InvalidInput: it is missing, or no number.
    """
    try:
        return kind(text)
    except (TypeError, ValueError):
        word = "nothing" if text is None else repr(text)
        raise InvalidInput(f"the header must state {name} as a number, got {word}: get another copy ({path})") from None


def file_sites(names: Sequence[str], header: dict[str, str], path: Path) -> tuple[int, ...]:
    """The four extents that a header states.

    Raises:
        InvalidInput: they are missing or less than 2.
    """
    sites = [as_number(name, header.get(name), path, int) for name in names]
    try:
        return check_sites(sites)
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({path})") from None


def matrices(data, dtype: np.dtype, sites: tuple[int, ...], rows: int, n: int, path: Path) -> np.ndarray:
    """The bytes of a file as `(t, z, y, x, 4, rows, N)`.

    Raises:
        InvalidInput: there are more or fewer.
    """
    shape = (*reversed(sites), 4, rows, n)
    expected = int(np.prod(shape)) * dtype.itemsize
    if len(data) != expected:
        raise InvalidInput(
            f"{expected} bytes of links are expected on sites {sites}, got {len(data)}: the file is truncated or its "
            f"header wrong, get another copy ({path})"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def facts(name: str, links: Tensor, measured: dict[str, float], verified: Sequence[str], **more) -> dict[str, Any]:
    """What is said of a configuration that was read."""
    return {
        "format": name,
        "group": str(SU(links.shape[-1])),
        "sites": tuple(links.shape[1:5]),
        "precision": 32 if links.dtype == torch.complex64 else 64,
        **measured,
        "verified": tuple(verified),
        **more,
    }


def _check_group(links: Tensor, group: SU, remedy: str) -> None:
    defect = float(group.defect(links).max())
    if not defect <= DEFECT:
        raise InvalidInput(f"links must be in {group} to {DEFECT:g}, got a defect of {defect:g}: {remedy}")
