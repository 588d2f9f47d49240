"""Weights: exact, executable by nobody, and clear about files that are none."""

import os
import pickle

import pytest
import torch

from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import load_weights, read_about, save_weights

TENSORS = {
    "a": torch.linspace(0, 1, 1000, dtype=torch.float64),
    "b.c": torch.arange(6.0).reshape(2, 3).T,
    "empty": torch.ones(0, 3),
}
ABOUT = {"config": '[lattice]\ngroup = "U(1)"\n', "name": "beta β"}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, TENSORS, ABOUT)
    return path


def test_round_trip(path):
    loaded = load_weights(path)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    assert read_about(path) == ABOUT
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_parameters_and_no_words(tmp_path):
    save_weights(tmp_path / "x.safetensors", dict(torch.nn.Linear(2, 3).named_parameters()), {})
    assert not load_weights(tmp_path / "x.safetensors")["weight"].requires_grad
    assert read_about(tmp_path / "x.safetensors") == {}


@pytest.mark.parametrize("read", [load_weights, read_about])
@pytest.mark.parametrize("fraction", [0.0, 0.0005, 0.01, 0.5, 0.9999])
def test_truncated(path, fraction, read):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    message = r"safetensors format is expected, .* truncated or something else \(|does not fit its hash: restore"
    with pytest.raises(InvalidInput, match=message):
        read(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_foreign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": torch.ones(3)}, "other.safetensors")
    with open("pickle.safetensors", "wb") as file:
        pickle.dump(Malicious(), file)
    os.mkdir("folder.safetensors")
    for name in ("other.safetensors", "pickle.safetensors", "folder.safetensors", "none.safetensors"):
        with pytest.raises(InvalidInput) as error:
            load_weights(name)
        assert f"({name})" in str(error.value)
        assert "\n" not in str(error.value)
    assert not os.path.exists("executed")


def test_full_disk_leaves_the_old_file(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LatticeFlowsError, match="No space left on device"):
        save_weights(path, {"a": torch.ones(3)}, {})
    assert read_about(path) == ABOUT
