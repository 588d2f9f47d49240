"""Ensembles: what is stored is the chain, appended to without a trace, and never half a file."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.io import Ensemble, appending, ensembles

SHAPES = {"U(1)": ((2, 4, 6), torch.float32), "SU(3)": ((3, 2, 2, 4, 3, 3), torch.complex128)}


def batches(name, count=4, size=50):
    generator = torch.Generator().manual_seed(0)
    shape, dtype = SHAPES[name]
    for index in range(count):
        accepted = torch.rand(size, generator=generator) < 0.4
        accepted[0] |= index == 0
        links = torch.randn(size, *shape, generator=generator, dtype=dtype)
        yield links, torch.randn(size, generator=generator), torch.randn(size, generator=generator), accepted


def store(path, parts, attributes=None):
    with appending(path, attributes or {"beta": 2.0}) as ensemble:
        for part in parts:
            ensemble.append(*part)
        ensemble.finish(torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", SHAPES)
def test_holds_the_chain(tmp_path, name):
    path = tmp_path / "ensemble.h5"
    parts = list(batches(name))
    store(path, parts)
    links, log_q, action, accepted = (torch.cat(column) for column in zip(*parts, strict=True))
    chain = []
    for proposal, moved in zip(links, accepted, strict=True):
        chain.append(proposal if moved else chain[-1])
    ensemble = Ensemble(path)
    assert len(ensemble) == len(chain) == 200
    distinct = torch.cat(list(ensemble.links(batch=7)))
    assert torch.equal(distinct[ensemble.chain_index], torch.stack(chain))
    assert torch.equal(distinct, torch.cat(list(ensemble.links())))
    assert torch.equal(distinct.repeat_interleave(torch.from_numpy(ensemble.multiplicity), 0), torch.stack(chain))
    np.testing.assert_array_equal(ensemble.log_weights, (-action.double() - log_q.double()).numpy())
    assert ensemble.log_q.dtype == ensemble.action.dtype == np.float64
    last = accepted.nonzero()[-1].item()
    end_links, end_log_q, end_action = ensemble.end()
    assert torch.equal(end_links, chain[-1])
    assert (end_log_q, end_action) == (log_q[last].item(), action[last].item())
    assert torch.equal(ensemble.generator_state, torch.Generator().manual_seed(3).get_state())


def test_appending_is_as_writing_at_once(tmp_path):
    parts = list(batches("U(1)"))
    store(tmp_path / "once.h5", parts)
    for part in parts:
        store(tmp_path / "often.h5", [part], {"beta": 2.0, "seed": 1})
    once, often = Ensemble(tmp_path / "once.h5"), Ensemble(tmp_path / "often.h5")
    for key in ("log_q", "action", "accepted"):
        np.testing.assert_array_equal(getattr(once, key), getattr(often, key))
    assert torch.equal(next(once.links()), next(often.links()))
    assert often.attributes["seed"] == 1
    assert often.attributes["n_proposals"] == 200
    assert sorted(os.listdir(tmp_path)) == ["often.h5", "once.h5"]


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "ensemble.h5"
    first, second, *_ = batches("U(1)")
    store(path, [first])

    def interrupted():
        yield second
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(path, interrupted())
    assert len(Ensemble(path)) == 50
    assert os.listdir(tmp_path) == ["ensemble.h5"]


FILL_THE_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_ensembles import batches, store
from lattice_flows.errors import LatticeFlowsError
for limit in range(30_000, 60_000, 3_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store(sys.argv[1], batches("U(1)", count=40))
    except LatticeFlowsError as error:
        print(error)
"""


def test_full_disk(tmp_path):
    """With real writes that fail, in a process of its own, because HDF5 is one to crash at exit."""
    path = tmp_path / "ensemble.h5"
    store(path, batches("U(1)"))
    before = path.read_bytes()
    command = [sys.executable, "-c", FILL_THE_DISK, str(path), os.path.dirname(__file__)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"cannot write {path}: File too large"] * 10
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["ensemble.h5"]


def test_refused_files(tmp_path, monkeypatch):
    path = tmp_path / "ensemble.h5"
    with pytest.raises(InvalidInput, match="No such file"):
        Ensemble(path)
    store(path, batches("U(1)"))
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1], b"not HDF5" * 100):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match="truncated or something else: restore it from a copy") as error:
            Ensemble(path)
        assert str(path) in str(error.value)
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2, 3]
    with pytest.raises(InvalidInput, match="this is another HDF5 file"):
        Ensemble(path)
    path.write_bytes(whole)
    monkeypatch.setattr(ensembles, "VERSION", 2)
    with pytest.raises(InvalidInput, match="version 2 is expected, got version 1"):
        Ensemble(path)
