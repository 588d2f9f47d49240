"""Ranks of a real MPI: the same numbers on any number of them, and an end, with a reason, when one of them fails."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from launcher import MPIEXEC, missing_mpi

from lattice_flows import SU, GaugeField, cli, runs
from lattice_flows.config import Config
from lattice_flows.distributed import World, world
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, load_checkpoint, read_metrics
from lattice_flows.io.measurements import Measurements
from lattice_flows.observables import average_plaquette, polyakov_loops
from lattice_flows.reports.observe import Session, observe
from lattice_flows.training.shards import Shards

needs_mpi = pytest.mark.skipif(missing_mpi() is not None, reason=str(missing_mpi()))

CONFIG = """
[lattice]
group = "SU(2)"
extents = [4, 4]
[action]
beta = 1.5
[flow]
layers = 4
hidden = [4]
bins = 4
[training]
steps = 24
shards = 4
batch = 50
learning_rate = 0.01
checkpoint_every = 6
dtype = "float64"
device = "cpu"
[sampling]
n = 120
batch = 25
"""
SPREAD = ['sampling.updates=["hmc", "metropolis"]', "sampling.chains=5", "sampling.thermalise=20", "sampling.n=30"]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "su2.toml"
    path.write_text(CONFIG)
    return path


def start(ranks, *words, **variables):
    """The command line on some ranks, or a program."""
    program = [] if words[0] == "-c" else ["-m", "lattice_flows"]
    command = [MPIEXEC, "-n", str(ranks), sys.executable, *program, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, seconds=100):
    """Its exit code and what it said."""
    try:
        said, complained = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said, complained


def launch(ranks, *words, **variables):
    code, said, complained = finish(start(ranks, *words, **variables))
    assert code == 0, complained
    return said


TOGETHER = """
import json, sys, time
from mpi4py import MPI
from lattice_flows import cli, distributed
for ranks, *words in json.loads(sys.argv[1]):
    some = MPI.COMM_WORLD.Split(MPI.COMM_WORLD.rank < ranks)
    if MPI.COMM_WORLD.rank < ranks:
        distributed.world = lambda: distributed.MPIWorld(some) if ranks > 1 else distributed.SERIAL
        assert cli.main(words) == 0
    barrier = MPI.COMM_WORLD.Ibarrier()
    while not barrier.Test():  # MPI's own wait keeps a core busy
        time.sleep(0.01)
"""


def together(*commands):
    """What command lines say, one after the other; each begins with the number of ranks it is given."""
    words = [[ranks, *map(str, words)] for ranks, *words in commands]
    return launch(max(ranks for ranks, *_ in words), "-c", TOGETHER, json.dumps(words))


def numbers(run):
    return np.array(
        [[record[name] for name in ("loss", "ess", "grad_norm")] for record in read_metrics(run / "metrics.jsonl")]
    )


def weights(run):
    state = load_checkpoint(run / "checkpoint.pt")["training"]
    return torch.cat([value.flatten() for value in state["flow"].values()])


@needs_mpi
def test_any_number_of_ranks_trains_the_same(config, tmp_path):
    """Losses and weights of 1 and 4 ranks agree to rounding, and so do those of a run that went from 3 to 2.

    The bound: 24 steps in float64 carry a rounding error of 1e-16 to below 1e-12. Other random numbers would change
    the losses by 0.1.
    """
    interrupted(config, tmp_path / "half")
    ranks = {"1": 1, "4": 4, "half": 2}
    said = together(*([ranks[name], "train", config, "--out", tmp_path / name] for name in ranks))
    assert said.count("trained for 24 steps") == 3
    reference, final = numbers(tmp_path / "1"), weights(tmp_path / "1")
    assert len(reference) == 24
    assert np.ptp(reference[:, 0]) > 0.1
    quality = json.loads((tmp_path / "1" / "trained.json").read_text())
    for name in ("4", "half"):
        measured = json.loads((tmp_path / name / "trained.json").read_text())
        for key in ("samples", "step", "ess", "ess_error", "acceptance"):
            known = quality.get(key)  # None, where it is not
            assert measured.get(key) == (None if known is None else pytest.approx(known, rel=1e-9))
        np.testing.assert_allclose(numbers(tmp_path / name), reference, rtol=0, atol=1e-12)
        torch.testing.assert_close(weights(tmp_path / name), final, rtol=0, atol=1e-12)


def interrupted(config, run):
    """A training on three ranks that is asked to stop after its first checkpoint: exit code 75, and nothing is lost."""
    process = start(3, "train", config, "--out", run, "training.checkpoint_every=1")
    wait_for(lambda: (run / "checkpoint.pt").exists(), process)
    for rank in ranks_of(process):
        os.kill(rank, signal.SIGUSR1)
    code, _, complained = finish(process)
    steps = load_checkpoint(run / "checkpoint.pt")["training"]["step"]
    assert 0 < steps < 24, "the signal came too late to see anything"
    assert code == 75, complained
    assert f"asked to stop: checkpoint written at step {steps} of 24" in complained
    assert len(read_metrics(run / "metrics.jsonl")) == steps


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def ranks_of(process):
    """The process ids of the ranks: descendants of mpiexec that run Python."""
    found, pending = [], [process.pid]
    while pending:
        parent = pending.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            pending += map(int, task.read_text().split())
        if Path(f"/proc/{parent}/exe").resolve() == Path(sys.executable).resolve():
            found.append(parent)
    return found


@needs_mpi
def test_any_number_of_ranks_makes_the_same_chains(config, tmp_path):
    """Chains that are spread, and proposals for one chain that are: bit for bit, and so is what is measured of them."""
    assert cli.main(["train", str(config), "--out", str(tmp_path / "trained"), "training.steps=6"]) == 0
    found, commands = {}, []
    for ranks in (1, 2, 3):
        one, five = tmp_path / f"one-{ranks}", tmp_path / f"five-{ranks}"
        shutil.copytree(tmp_path / "trained", one)
        commands += [[ranks, "sample", one], [ranks, "measure", one], [ranks, "sample", config, "--out", five, *SPREAD]]
    assert together(*commands).count("120 configurations; next") == 3
    for ranks in (1, 2, 3):
        one, five = tmp_path / f"one-{ranks}", tmp_path / f"five-{ranks}"
        found[ranks] = [chain(one), chain(five), json.loads((one / "report.json").read_text())]
    for ranks in (2, 3):
        for mine, reference in zip(found[ranks][:2], found[1][:2], strict=True):
            assert mine.keys() == reference.keys()
            for name, values in reference.items():
                np.testing.assert_array_equal(mine[name], values, err_msg=name)
        assert found[ranks][2] == found[1][2]
    # goes on with another number of ranks, as if nothing had happened
    together([2, "sample", tmp_path / "five-3", "sampling.n=40"], [1, "sample", tmp_path / "five-1", "sampling.n=40"])
    longer = chain(tmp_path / "five-1")
    assert all((values == longer[name]).all() for name, values in chain(tmp_path / "five-3").items())


def chain(run):
    file = ChainFile(run / "ensemble.h5")
    tuned = {name: value for name, value in file.attributes.items() if name.startswith("tuned")}
    state, streams = file.end()
    links = np.concatenate([block.numpy() for block in file.configurations()])
    rows = {f"rows {k}": np.stack(file.rows(k)) for k in range(file.chains)}
    return {
        "action": file.series("action"),
        "links": links,
        "end": state.x.numpy(),
        "streams": streams.numpy(),
        **tuned,
        **rows,
    }


PROGRAM = """
import sys, time
from lattice_flows import cli, distributed
from lattice_flows.training import loop
loop.CHECK_EVERY = 10
step = loop._Step.__call__
def hook(self, number):
    rank = self.shards.world.rank
    if number == 3 and rank == 1:
        {what}
    return step(self, number)
loop._Step.__call__ = hook
sys.exit(cli.main(sys.argv[1:]))
"""


@needs_mpi
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise RuntimeError('the disk of this node is gone')", "RuntimeError: the disk of this node is gone"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ""),
        ("self.reduction.parameters[0].data.add_(1e-9)", "the parameters of ranks 1 are no longer those of rank 0"),
    ],
    ids=["exception", "SIGKILL", "divergence"],
)
def test_one_rank_fails(what, words, config, tmp_path):
    """The others do not wait for it."""
    process = start(
        3, "-c", PROGRAM.format(what=what), "train", config, "--out", tmp_path / "run", "training.steps=400"
    )
    wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists(), process)
    code, _, complained = finish(process, 30)
    assert code != 0
    assert words in complained
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) < 60


@needs_mpi
def test_a_world_of_another_size_is_explained(config, tmp_path):
    """The batch script says 4, and the launcher has started worlds of 1."""
    words = [sys.executable, "-m", "lattice_flows", "train", str(config), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "LATTICE_FLOWS_RANKS": "4"}
    result = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        "LATTICE_FLOWS_RANKS=4 says that 4 processes work together, but this one is in an MPI world of size 1"
        in result.stderr
    )
    assert "srun --mpi=pmi2" in result.stderr
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_more_ranks_than_work_are_explained(config, tmp_path):
    """Once, and not by every rank."""
    for words, why in (
        (["train", config, "training.shards=2"], "2 shards cannot be spread over 3 ranks"),
        (["sample", config, 'sampling.updates=["heatbath"]'], "1 chains cannot be spread over 3 ranks"),
    ):
        code, _, complained = finish(start(3, *words, "--out", tmp_path / "run"))
        assert code == 2
        assert complained.count(why) == 1


TORCH = """
import torch
from mpi4py import MPI
from lattice_flows.distributed import MPIWorld
world = MPIWorld(MPI.COMM_WORLD, backend="gloo")
tensor = torch.arange(4.0) + world.rank
world.sum_(tensor)
assert tensor.tolist() == [1.0, 3.0, 5.0, 7.0], tensor
"""


@needs_mpi
def test_sums_by_torch_distributed():
    """The way of NCCL, without a GPU: the processes meet at an address that MPI carries."""
    launch(2, "-c", TORCH)


def test_without_a_launcher_there_is_no_mpi():
    code = (
        "import sys; from lattice_flows.distributed import world\n"
        "assert world({}).size == 1\nassert 'mpi4py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert world({"PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}).size == 1


class Ranks(World):
    """One of many ranks, none of which is there."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("batch", [16, 50, 128])
def test_shards_of_all_ranks_are_the_batch(size, batch):
    def draw(world):
        shards = Shards(3, 16, world)
        return shards.draw(batch, 5, lambda n, generator: torch.rand(n, generator=generator)), shards.own(batch)

    parts, owns = zip(*(draw(Ranks(rank, size)) for rank in range(size)), strict=True)
    assert torch.equal(torch.cat(parts), draw(World())[0])
    assert len(torch.cat(parts).unique()) == batch
    assert [sample for own in owns for sample in own] == list(range(batch))
    assert [len(part) for part in parts] == [len(own) for own in owns]


def test_more_ranks_than_samples():
    with pytest.raises(InvalidInput, match=r"training\.shards=17 or a multiple"):
        Shards(0, 16, Ranks(0, 17))
    with pytest.raises(InvalidInput, match="batch of 3 is too small for 16 ranks"):
        Shards(0, 16, Ranks(0, 16)).own(3)


KILLED = """
import os, sys
from lattice_flows import config, runs
settings = config.load(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        runs.train_run(settings, line.strip())
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


def test_killed_at_sixty_moments(config, tmp_path):
    """Whatever write a SIGKILL cuts short, the checkpoint before it is there, and the run ends as if nothing was."""
    config.write_text(
        CONFIG.replace("checkpoint_every = 6", "checkpoint_every = 1").replace("steps = 24", "steps = 150")
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(config)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    chance, kills, reached = random.Random(5), 0, []
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"

        def life(run, seconds):
            print(run, file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            if seconds is not None:
                time.sleep(seconds)
                os.kill(child, signal.SIGKILL)
            return int(process.stdout.readline())

        assert life(tmp_path / "whole", None) == 0
        while kills < 60:
            kills += life(tmp_path / "run", chance.uniform(0.02, 0.12)) == signal.SIGKILL
            if (tmp_path / "run" / "checkpoint.pt").exists():
                reached.append(load_checkpoint(tmp_path / "run" / "checkpoint.pt")["training"]["step"])
            if reached and reached[-1] == 150:  # another one
                shutil.rmtree(tmp_path / "run")
                reached.clear()
        assert reached == sorted(reached)
        assert life(tmp_path / "run", None) == 0
        process.stdin.close()
    assert np.array_equal(numbers(tmp_path / "run"), numbers(tmp_path / "whole"))
    assert torch.equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


MEASURES = """
import sys
from pathlib import Path
import numpy as np
from lattice_flows import SU, GaugeField, distributed
from lattice_flows.io import ChainFile
from lattice_flows.io.measurements import Measurements
from lattice_flows.observables import average_plaquette, polyakov_loops
from lattice_flows.reports import observe

folder = Path(sys.argv[1])
observe.PART, observe.COMMIT_SECONDS = 3000, 0.0
world, space, chains = distributed.world(), GaugeField(SU(2), (4, 4)), ChainFile(folder / "ensemble.h5")
session = observe.Session(Measurements(folder / "kept.h5") if world.first else None, world)
series = observe.observe(chains, {"P": average_plaquette(space), "L": polyakov_loops(space)}, session)
np.savez(folder / f"rank{world.rank}.npz", **series)
"""


@needs_mpi
def test_ranks_share_the_parts_of_a_measurement(tmp_path):
    """Each rank has the series of one process, and they go on with what one process has kept."""
    settings = Config.of(
        lattice={"group": "SU(2)", "extents": (4, 4)},
        action={"beta": 1.5},
        training={"device": "cpu"},
        sampling={"updates": ("heatbath",), "chains": 2, "n": 15, "thermalise": 2},
    )
    runs.sample_run(tmp_path, config=settings)
    chains, space = ChainFile(tmp_path / "ensemble.h5"), GaugeField(SU(2), (4, 4))
    observables = {"P": average_plaquette(space), "L": polyakov_loops(space)}
    observe(chains.thinned(4), observables, Session(Measurements(tmp_path / "kept.h5")))
    assert len(Measurements(tmp_path / "kept.h5").entries["L"].values) == 6
    launch(2, "-c", MEASURES, tmp_path, LATTICE_FLOWS_RANKS="2")
    assert len(Measurements(tmp_path / "kept.h5").entries["L"].values) == 30
    expected = observe(chains, observables)
    for rank in range(2):
        series = np.load(tmp_path / f"rank{rank}.npz")
        for name in observables:
            np.testing.assert_allclose(series[name], expected[name], rtol=1e-13, atol=1e-15)
