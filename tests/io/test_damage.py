"""Damaged files: each reader says so in one line, or reads what was written; nothing else happens.

A few mutations of each kind run here, `FUZZ=500` makes more of them (of each kind of file).
"""

import hashlib
import json
import os
import random
import resource
import time

import numpy as np
import pytest
import torch
from test_ensembles import CASES, CHAINS, create, go_on, strip

from lattice_flows import models
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import (
    ChainFile,
    MetricsFile,
    load_checkpoint,
    read_metrics,
    read_report,
    save_checkpoint,
    write_report,
)

NUMBER = int(os.environ.get("FUZZ", "40"))
PAGE = 4096
SECONDS, BYTES = 20, 2**30
CASE = CASES[1]
CONFIG = Config.of(
    lattice={"group": "U(1)", "extents": (4, 4)}, action={"beta": 1.0}, flow={"layers": 2, "hidden": (2,)}
)


def flipped(data, chance):
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def replaced(data, chance):
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice((1, 4, 30, 600)))
    data[start:stop] = chance.randbytes(stop - start)
    return data


def truncated(data, chance):
    return data[: chance.randrange(len(data))]


def cut_out(data, chance):
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 8, PAGE))]
    return data


def zeroed(data, chance):
    start = chance.randrange(len(data)) // PAGE * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))
    return data


def swapped(data, chance):
    """Two pages, or in a small file two blocks."""
    size = PAGE if len(data) > 4 * PAGE else max(1, len(data) // 8)
    one, two = (chance.randrange(len(data) // size) * size for _ in range(2))
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    return data


MUTATIONS = (flipped, flipped, replaced, truncated, cut_out, zeroed, swapped)


def read_all(path):
    file = ChainFile(path)
    parts = [json.dumps(file.attributes, default=str), file.every, file.dataset, len(file)]
    names = ("action", "acceptance", "proposals/log_w", "proposals/action", "proposals/accepted")
    parts += [file.series(name).tobytes() for name in names]
    parts += [part.tobytes() for k in range(CHAINS) for part in file.rows(k)]
    parts += [block.numpy().tobytes() for block in file.configurations()]
    state, streams = file.end()
    return digest([*parts, *(part.numpy().tobytes() for part in (*state, streams) if part is not None)])


def digest(parts):
    return hashlib.sha256(b"".join(repr(part).encode() for part in parts)).hexdigest()


def write_ensemble(path):
    create(path, CASE)
    for _ in go_on(path, CASE, 30, 10):
        pass


def write_old_ensemble(path):
    write_ensemble(path)
    strip(path)


def read_old(path):
    """Without checksums there is a result, or one line; the result need not be right."""
    read_all(path)
    return "read"


def go_on_and_read(path):
    """A writer does not make damage look sound."""
    for _ in go_on(path, CASE, 5, 5):
        pass
    return read_all(path)


STATE = {"x": torch.randn(3, 40, dtype=torch.float64), "action": torch.zeros(3)}


def write_state(path):
    save_checkpoint(path, {"state": STATE, "tuned": {"hmc": {"steps": 3}}, "attributes": {"config": "a = 1"}})


def read_state(path):
    content = load_checkpoint(path)
    return digest([tensor.numpy().tobytes() for tensor in content.pop("state").values()] + [content])


def write_model(path):
    _, flow, action = models.build_run(CONFIG, "test")
    facts = models.Facts(version="0.1.0", step=3, training_cpu_minutes=0.5)
    models.save(models.Model(flow, action, CONFIG, "test", facts), path)


def read_model(path):
    model = models.load(path)
    return models.digest(model.flow), model.config, model.facts, model.name


def write_metrics(path):
    with MetricsFile(path, keep=0) as metrics:
        for step in range(60):
            metrics.append({"step": step, "loss": -1.5 / (step + 1), "ess": 0.5, "skipped": step % 7 == 0})


def write_some_report(path):
    entries = {f"observable {k}": {"value": 0.1 / (k + 1), "error": None, "frozen": False} for k in range(9)}
    write_report(path, {"n": 100, "observables": entries, "updates": 100, "text": "β"})


KINDS = {
    "ensemble.h5": (write_ensemble, read_all),
    "going_on.h5": (write_ensemble, go_on_and_read),
    "old.h5": (write_old_ensemble, read_old),
    "checkpoint.pt": (write_state, read_state),
    "model.safetensors": (write_model, read_model),
    "metrics.jsonl": (write_metrics, read_metrics),
    "report.json": (write_some_report, read_report),
}


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_named_or_does_not_matter(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    write, read = KINDS[name]
    path = tmp_path / name
    write(path)
    whole, chance, counts = path.read_bytes(), random.Random(name), {"named": 0, "same": 0}
    wanted = read(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(NUMBER):
        mutate = MUTATIONS[k % len(MUTATIONS)]
        path.write_bytes(mutate(bytearray(whole), chance))
        since = time.process_time()
        found, message = None, None
        try:
            found = read(path)
        except LatticeFlowsError as error:
            message = str(error)
        counts["same" if message is None else "named"] += 1
        if message is not None:
            assert str(path) in message
            assert "\n" not in message
        else:
            # a kill leaves metrics without their last lines, too
            lines = name == "metrics.jsonl" and found == wanted[: len(found)]
            assert lines or found == wanted, (k, mutate.__name__)
        assert time.process_time() - since < SECONDS, (k, mutate.__name__)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < BYTES / 1024
    with capsys.disabled():
        if NUMBER >= 500:
            print(f"\n{name}: {NUMBER} mutations, {counts}")
    assert counts["named"]


def test_damage_has_a_place(tmp_path):
    """The file, the dataset and the bytes; what is elsewhere can be read."""
    path = tmp_path / "ensemble.h5"
    write_ensemble(path)
    data, row = bytearray(path.read_bytes()), ChainFile(path).read(np.arange(1)).numpy().tobytes()
    place = data.index(row)
    data[place + 5] ^= 1
    path.write_bytes(data)
    file = ChainFile(path)
    assert file.series("action").shape == (30, CHAINS)
    page = (place + 5) // PAGE * PAGE
    with pytest.raises(InvalidInput) as error:
        list(file.configurations())
    assert str(error.value) == (
        f"an ensemble of lattice_flows is expected, this file is damaged: bytes {page} to {page + PAGE - 1} do not fit "
        f"their checksum: restore it from a copy, or remove it to sample from the start ({path}) (in /links)"
    )
