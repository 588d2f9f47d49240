"""Weights: one safetensors file of tensors, with text about them in its header; nothing read from it is executed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lattice_flows.config.text import opened
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files


def save_weights(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, and text about them, atomically and durably.

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable; an older file is then still there.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "model.safetensors")
        ...     save_weights(path, {"w": torch.ones(2)}, {"beta": "2.0"})
        ...     load_weights(path), read_about(path)
        ({'w': tensor([1., 1.])}, {'beta': '2.0'})
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(Path(path), safetensors.torch.save(plain, metadata=dict(about)))


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in a safetensors file.

    Raises:
        InvalidInput: the file is missing, truncated or something else.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict


def read_about(path: str | Path) -> dict[str, str]:
    """Return the text in the header of a safetensors file, without reading its tensors.

    Raises:
        InvalidInput: as `load_weights`.
    """
    with _open(path) as file:
        return file.metadata() or {}


@contextmanager
def _open(path: str | Path) -> Iterator[safe_open]:
    # safe_open gives no reason of the system, waits for pipes, and takes no name that is not UTF-8
    try:
        with (
            opened(path, "model") as found,
            safe_open(path if str(path).isprintable() else f"/dev/fd/{found.fileno()}", framework="pt") as file,
        ):
            yield file
    except SafetensorError as error:
        raise InvalidInput(
            f"a model in the safetensors format is expected, this file is truncated or something else ({path})"
        ) from error
