"""Files of tensors: checkpoints of any state, and weights in safetensors files; nothing read from them is executed.

Both hold a SHA-256 of their content, which is compared before anything else is read: a checkpoint behind the file of
torch, a safetensors file under `sha256` in its metadata, made while 64 zeros stand there. Files without are those of
earlier versions and of other programs.
"""

import hashlib
import io
import re
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
VERSION = 2
# versions that had no hash
EARLIER = (1,)
_TRAILER = b"\nlattice_flows sha256\n"
_HASH, _ZEROS = re.compile(rb'(?<="sha256":").{64}(?=")', re.DOTALL), b"0" * 64


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
    content = buffer.getvalue()
    files.write(Path(path), content + _TRAILER + hashlib.sha256(content).digest())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the state that `save_checkpoint` wrote, with all tensors on the CPU.

    Raises:
        InvalidInput: the file is missing, damaged, something else, or of another version.
    """
    data, hashed = read_bytes(path, "checkpoint"), False
    content, trailer, digest = data.rpartition(_TRAILER)
    if trailer and len(digest) == 32:
        hashed = hashlib.sha256(content).digest() == digest
        if not hashed:
            raise InvalidInput(
                f"the checkpoint is damaged, it does not fit its hash: "
                f"restore it from a copy, or remove it to start again ({path})"
            )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, OSError too, depending on where the file is broken
        raise InvalidInput(
            f"a checkpoint of lattice_flows is expected, this file is truncated or something else: "
            f"restore it from a copy, or remove it to start again ({path})"
        ) from error
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if found[1] == VERSION and not hashed:
        raise InvalidInput(
            f"the checkpoint is damaged, its hash is missing: "
            f"restore it from a copy, or remove it to start again ({path})"
        )
    if found[1] in EARLIER:
        found = found[0], VERSION
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
    data = safetensors.torch.save(plain, metadata={**about, "sha256": _ZEROS.decode()})
    digest = hashlib.sha256(data).hexdigest().encode()
    files.write(Path(path), _HASH.sub(digest, data[: _header(data)], count=1) + data[_header(data) :])


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in a safetensors file.

    Raises:
        InvalidInput: the file is missing, damaged or something else.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict


def read_about(path: str | Path) -> dict[str, str]:
    """Return the text in the header of a safetensors file; errors as `load_weights`."""
    with _open(path) as file:
        return {name: text for name, text in (file.metadata() or {}).items() if name != "sha256"}


@contextmanager
def _open(path: str | Path) -> Iterator[safe_open]:
    data = read_bytes(path, "model")
    header = data[: _header(data)]
    if stored := _HASH.search(header):
        digest = hashlib.sha256(header[: stored.start()] + _ZEROS + header[stored.end() :] + data[len(header) :])
        if digest.hexdigest().encode() != stored[0]:
            raise InvalidInput(f"the model is damaged, it does not fit its hash: restore it from a copy ({path})")
    # safe_open gives no reason of the system, waits for pipes, and takes no name that is not UTF-8
    try:
        with (
            opened(path, "model") as found,
            safe_open(path if str(path).isprintable() else f"/dev/fd/{found.fileno()}", framework="pt") as file,
        ):
            yield file
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(
            f"a model in the safetensors format is expected, this file is truncated or something else ({path})"
        ) from error


def _header(data: bytes) -> int:
    """Return the size of the header of a safetensors file, behind which its tensors begin."""
    return 8 + int.from_bytes(data[:8], "little")
