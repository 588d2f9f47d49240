"""How links lie in files, and what they are: one configuration of SU(N) in four dimensions.

Files run over sites with x fastest, then y, z, t. At each site they run over the directions x, y, z, t, and in each
matrix over columns, then rows. Our directions and axes 0, 1, 2, 3 are x, y, z, t of the file: the last one is time.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.observables import average_plaquette

AXES = (4, 3, 2, 1, 0, 5, 6)
DEFECT = 1e-4


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
