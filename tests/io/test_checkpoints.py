"""Checkpoints: exact, executable by nobody, and clear about files that are none."""

import os
import pickle

import pytest
import torch

from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import load_checkpoint, save_checkpoint, tensors

STATE = {
    "weights": torch.linspace(0, 1, 1000, dtype=torch.float64),
    "step": 3,
    "rng": torch.get_rng_state(),
    "text": "a",
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    return path


def test_round_trip(path):
    loaded = load_checkpoint(path)
    assert loaded.keys() == STATE.keys()
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert torch.equal(loaded["rng"], STATE["rng"])
    assert (loaded["step"], loaded["text"]) == (3, "a")
    assert os.listdir(path.parent) == ["checkpoint.pt"]


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.999])
def test_truncated(path, fraction):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InvalidInput, match=r"(truncated or something else|damaged, .*): restore it from a copy"):
        load_checkpoint(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_foreign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}}, "other.pt")
    torch.save(torch.ones(3), "tensor.pt")
    torch.save(Malicious(), "code.pt")
    with open("pickle.pt", "wb") as file:
        pickle.dump(Malicious(), file)
    with open("text.pt", "w") as file:
        file.write("not a checkpoint")
    os.mkdir("folder.pt")
    for name in ("other.pt", "tensor.pt", "code.pt", "pickle.pt", "text.pt", "folder.pt", "none.pt"):
        with pytest.raises(InvalidInput) as error:
            load_checkpoint(name)
        assert f"({name})" in str(error.value)
        assert "\n" not in str(error.value)
    assert not os.path.exists("executed")


def test_other_version(path, monkeypatch):
    monkeypatch.setattr(tensors, "VERSION", 3)
    with pytest.raises(InvalidInput, match="version 3 is expected, got version 2"):
        load_checkpoint(path)
    torch.save({"format": tensors.FORMAT, "version": 1, "state": {"step": 3}}, path)
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 3}


def test_full_disk_leaves_the_old_checkpoint(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LatticeFlowsError, match="No space left on device"):
        save_checkpoint(path, {"step": 4})
    assert load_checkpoint(path)["step"] == 3
    assert os.listdir(path.parent) == ["checkpoint.pt"]
