"""Files of tensors: checkpoints of any state, and weights in safetensors files; nothing read from them is executed."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lattice_flows.config.text import opened, read_bytes
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files

FORMAT = "lattice_flows checkpoint"
VERSION = 1


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state`, nested dicts and lists of tensors, numbers, strings and None, atomically and durably.

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable; an older checkpoint is then still there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(Path(folder, "checkpoint.pt"), {"step": 3, "weights": torch.ones(2)})
        ...     load_checkpoint(Path(folder, "checkpoint.pt"))
        {'step': 3, 'weights': tensor([1., 1.])}
    """
    # through memory, because torch.save to a path turns a full disk into a RuntimeError without a reason
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, "state": state}, buffer)
    files.write(Path(path), buffer.getbuffer())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the state that `save_checkpoint` wrote, with all tensors on the CPU.

    Raises:
        InvalidInput: the file is missing, truncated, something else, or of another version.
    """
    data = read_bytes(path, "checkpoint")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, OSError too, depending on where the file is broken
        raise InvalidInput(
            f"a checkpoint of lattice_flows is expected, this file is truncated or something else: "
            f"restore it from a copy, or remove it to train from the start ({path})"
        ) from error
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    files.check_format("a checkpoint", found, (FORMAT, VERSION), path)
    return content["state"]


def save_weights(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, and text about them, atomically and durably.

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable; an older file is then still there.

    Example:
        >>> import tempfile
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
    """Return the text in the header of a safetensors file, without reading its tensors; errors as `load_weights`."""
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
