"""Checkpoints: one file of tensors, numbers and strings, written atomically and read without executing code."""

import io
from pathlib import Path
from typing import Any

import torch

from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files

FORMAT = "lattice_flows checkpoint"
VERSION = 1
LIMIT = 2**36


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
    data = read_bytes(path, "checkpoint", LIMIT)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, OSError too, depending on where the file is broken
        raise InvalidInput(
            f"a checkpoint of lattice_flows is expected, this file is truncated or something else: "
            f"restore it from a copy, or remove it to train from the start ({path})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInput(f"a checkpoint of lattice_flows is expected, this file is from another program ({path})")
    if content["version"] != VERSION:
        raise InvalidInput(
            f"a checkpoint of version {VERSION} is expected, got version {content['version']}: "
            f"use the lattice_flows that wrote it ({path})"
        )
    return content["state"]
