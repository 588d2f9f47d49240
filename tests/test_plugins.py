"""A group, an action, a sampler, an architecture and an observable from outside of the package."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import fresh
import numpy as np
import pytest
import torch

from lattice_flows import GaugeField, cli, groups, runs
from lattice_flows.actions import ActionEntry, BetaSettings, Iwasaki, Wilson
from lattice_flows.config import ACTIONS, SAMPLERS, Config, Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.layers import SpectralMap
from lattice_flows.observables import average_plaquette
from lattice_flows.operators import plaquettes
from lattice_flows.operators.loops import LoopSum
from lattice_flows.sampling import HMC, HeatBath, Metropolis, OverRelaxation, ReplicaExchange, Streams, start
from lattice_flows.sampling.base import SamplerEntry
from lattice_flows.statistics import estimate
from lattice_flows.testing import assert_force, assert_gauge_invariant

COMMAND = "import sys; from lattice_flows import cli; sys.exit(cli.main())"
PLUGINS = Path(__file__).parent / "plugins"
FAMILIES = dict(groups._FAMILIES)
sys.path.append(str(PLUGINS))

import symplectic  # noqa: E402
from launcher import MPIEXEC, missing_mpi  # noqa: E402

GROUP = symplectic.Sp2()
BETA = 6.0
FAMILIES_HERE = dict(groups._FAMILIES)
groups._FAMILIES.clear()
groups._FAMILIES.update(FAMILIES)


@pytest.fixture(autouse=True)
def _family(monkeypatch):
    """The family Sp(n) has its name in these tests alone."""
    monkeypatch.setattr(groups, "_FAMILIES", FAMILIES_HERE)


def exact_plaquette(beta):
    """<Re tr U / 4> of one link U with density exp(beta Re tr U / 4), by Weyl's formula for Sp(2).

    The eigenvalues are e^{+-i a} and e^{+-i b}. In two dimensions it is the average plaquette of a large lattice.
    """
    angle = np.linspace(0, math.pi, 801)
    a, b = np.meshgrid(angle, angle)
    p = (np.cos(a) + np.cos(b)) / 2
    weight = (np.cos(a) - np.cos(b)) ** 2 * (np.sin(a) * np.sin(b)) ** 2 * np.exp(beta * p)
    return (p * weight).sum() / weight.sum()


def test_axioms(generator):
    a, b = GROUP.haar(2, 50, generator=generator, dtype=torch.float64)
    j = torch.zeros(4, 4, dtype=a.dtype)
    j[:2, 2:], j[2:, :2] = -torch.eye(2), torch.eye(2)
    assert (a @ j @ a.mT - j).abs().max() < 1e-13
    assert GROUP.defect(GROUP.compose(a, GROUP.inverse(b))).max() < 1e-13
    algebra = GROUP.random_algebra(50, generator=generator, dtype=torch.float64)
    assert GROUP.defect(GROUP.exp(algebra)).max() < 1e-13
    generators = GROUP.generators(dtype=torch.float64)
    assert (GROUP.inner(generators[:, None], generators) - torch.eye(10)).abs().max() < 1e-13
    assert groups.from_name("sp(2)") == GROUP
    with pytest.raises(InvalidInput, match=r"available: .*SP\(n\)"):
        groups.from_name("Sp(3)")


@pytest.mark.parametrize("kind", [Wilson, Iwasaki])
def test_forces(kind, generator):
    space = GaugeField(GROUP, (2, 3, 4))
    links = space.prior(2, generator, dtype=torch.float64)
    assert_gauge_invariant(kind(space, 3.0), links, space, generator=generator)
    assert_force(kind(space, 3.0), links)


def assert_agrees(series, beta=BETA):
    result = estimate(np.array(series).T)
    assert result.reliable
    assert abs(result.value - exact_plaquette(beta)) < 4 * result.error
    assert result.error < 0.01


def test_plaquettes_leave_the_kernels_of_other_groups(generator):
    """Their force is projected on the algebra of the group, not on that of SU(4)."""
    space = GaugeField(GROUP, (4, 4))
    links, operator = space.prior(2, generator, dtype=torch.float64), plaquettes(space)
    assert torch.equal(operator.force(links), LoopSum.force(operator, links))


@pytest.mark.parametrize("make", [lambda action: HMC(action, steps=8), lambda action: Metropolis(action, spread=0.35)])
def test_chains(make):
    space, streams = GaugeField(GROUP, (4, 4)), Streams(seed=3, chains=20)
    sampler, plaquette, series = make(Wilson(space, BETA)), average_plaquette(space), []
    state = sampler.init(start(space, streams, dtype=torch.float64))
    for update in range(100):
        state, _ = sampler.step(state, streams)
        if update >= 20:
            series.append(plaquette(state.x).tolist())
    assert space.group.defect(state.x).max() < 1e-10
    assert_agrees(series)


def test_tempering():
    space, streams, betas = GaugeField(GROUP, (3, 3)), Streams(seed=4, chains=10), (4.0, 5.0, BETA)
    sampler = ReplicaExchange([Metropolis(Wilson(space, beta), spread=0.4) for beta in betas])
    state, series = sampler.init(start(space, streams, dtype=torch.float64)), [[] for _ in betas]
    for update in range(100):
        state, info = sampler.step(state, streams)
        if update >= 20:
            for own, replica in zip(series, state.states, strict=True):
                own.append(average_plaquette(space)(replica.x).tolist())
    assert 0.05 < info.probability.mean() < 1
    for own, beta in zip(series, betas, strict=True):
        assert_agrees(own, beta)


def test_what_the_group_lacks():
    action = Wilson(GaugeField(GROUP, (4, 4)), BETA)
    for sampler, word in ((HeatBath, "heat bath"), (OverRelaxation, "over-relaxation")):
        with pytest.raises(InvalidInput, match=rf"Sp\(2\) has no {word} in this package: use hmc or metropolis"):
            sampler(action)
    with pytest.raises(InvalidInput, match=r"Sp\(2\) has no spectral map"):
        SpectralMap(GROUP)


CONFIG = """
imports = ["extension"]

[lattice]
group = "U(1)"
extents = [4, 4]

[action]
name = "mixed"
beta = 1.0
gamma = 0.25

[flow]
architecture = "short"
rounds = 1

[training]
steps = 3
batch = 16

[sampling]
updates = ["flow", "conjugation*2", "hmc"]
turns = 3
n = 40
chains = 2
thermalise = 2
hmc_steps = 5
"""


def test_a_run_of_plug_ins(tmp_path):
    """In a process of its own, as a person would: the module is found beside the config."""
    (tmp_path / "extension.py").write_text((PLUGINS / "extension.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "own.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "wrong.toml").write_text(CONFIG.replace("gamma = 0.25", "layers = 3"), encoding="utf-8")

    def run(*words):
        return fresh.run(COMMAND, *words, cwd=tmp_path)

    for words in (["train", "own.toml", "--out", "run"], ["sample", "run"], ["measure", "run"]):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    assert "charge conjugation" in done.stdout
    assert "mixed action at beta = 1" in done.stdout
    entry = json.loads((tmp_path / "run" / "report.json").read_text())["observables"]["plaquette_squared"]
    assert entry["exact"] == 0.25
    assert "plaquette squared" in done.stdout
    if missing_mpi() is None:
        command = [MPIEXEC, "-n", "2", sys.executable, "-m", "lattice_flows", "sample", "run", "-n", "60"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    failed = run("train", "wrong.toml", "--out", "other")
    assert failed.returncode == 2
    assert "valid keys: name, beta, gamma" in failed.stderr


def test_the_example_of_contributing(tmp_path):
    text = (PLUGINS.parents[1] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    (tmp_path / "own.toml").write_text(
        'imports = ["mine"]\n[lattice]\ngroup = "U(1)"\nextents = [4, 4]\n[action]\nname = "twice"\nbeta = 1.0\n'
        'kappa = 0.2\n[sampling]\nupdates = ["hmc"]\nhmc_steps = 4\nn = 20\nthermalise = 2\n',
        encoding="utf-8",
    )
    for words in (["sample", "own.toml", "--out", "run"], ["measure", "run"]):
        done = fresh.run(COMMAND, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "twice action at beta = 1, kappa = 0.2" in done.stdout
    assert "1 - plaquette" in done.stdout


def test_a_run_of_another_group(tmp_path, monkeypatch):
    monkeypatch.chdir(PLUGINS)
    config, run = tmp_path / "sp2.toml", tmp_path / "run"
    config.write_text(
        'imports = ["symplectic"]\n[lattice]\ngroup = "Sp(2)"\nextents = [3, 3]\n[action]\nbeta = 4.0\n'
        '[sampling]\nupdates = ["metropolis", "hmc"]\nn = 60\nchains = 4\nthermalise = 10\n',
        encoding="utf-8",
    )
    assert cli.main(["sample", str(config), "--out", str(run)]) == 0
    assert cli.main(["measure", str(run)]) == 0
    entry = json.loads((run / "report.json").read_text())["observables"]["plaquette"]
    assert abs(entry["value"] - exact_plaquette(4.0)) < 4 * entry["error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutsideSettings(BetaSettings):
    """An outside field, which is called as a fact of every run is."""

    field: float
    turns: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TurningSettings(Settings):
    """A key that an action has, too."""

    turns: int = 1


def test_settings_called_as_facts_of_a_run(tmp_path, monkeypatch):
    """They are neither lost nor mistaken for each other."""
    for registry in (ACTIONS, SAMPLERS):
        list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    ACTIONS.register("outside", ActionEntry(OutsideSettings, lambda space, own: Wilson(space, own.beta)))
    build = SAMPLERS["heatbath"].build
    SAMPLERS.register("turning", SamplerEntry("turning", TurningSettings, build, rejects=False))
    config = Config.of(
        lattice={"group": "U(1)", "extents": (4, 4)},
        action={"name": "outside", "beta": 1.0, "field": 0.5, "turns": 7},
        sampling={"updates": ["turning"], "turns": 2, "n": 3},
    )
    assert runs.sample_run(tmp_path, config=config) == 3
    assert runs.sample_run(tmp_path, ["sampling.n=5"]) == 5
    with pytest.raises(InvalidInput, match="the chain was made with turns 2, not 3"):
        runs.sample_run(tmp_path, ["sampling.turns=3"])
    assert runs.measure_run(tmp_path)["n"] == 5
