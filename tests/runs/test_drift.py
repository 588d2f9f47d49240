"""Chains that miss a part of the target show it where local updates move their states."""

import pytest
from command_line import out

from lattice_flows import runs
from lattice_flows.actions import Wilson
from lattice_flows.config import Config
from lattice_flows.io import ChainFile
from lattice_flows.io.measurements import Measurements
from lattice_flows.models import build_space
from lattice_flows.reports.drift import drift
from lattice_flows.reports.observe import Session
from lattice_flows.runs import measure
from lattice_flows.sampling import HeatBath

CONFIG = Config.of(
    lattice={"group": "U(1)", "extents": (4, 4)},
    action={"beta": 0.2},
    flow={"layers": 2, "hidden": (2,), "bins": 4},
    training={"device": "cpu", "steps": 1, "batch": 4},
    sampling={"n": 400, "batch": 100},
)


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Chains in equilibrium at beta = 2."""
    folder = tmp_path_factory.mktemp("heatbath")
    sampling = {"updates": ("heatbath",), "n": 250, "chains": 4, "thermalise": 30}
    runs.sample_run(folder, config=CONFIG.having(action={"beta": 2.0}, sampling=sampling))
    return ChainFile(folder / "ensemble.h5")


def test_chains_in_equilibrium_do_not_drift(chains):
    """For another coupling they drift: at a smaller one, its wide configurations are missing, as in a narrow flow."""
    space = build_space(CONFIG)
    assert drift(chains, Wilson(space, 2.0), 0) == ""
    for beta, sign in ((1.6, "-"), (2.4, "+")):
        words = drift(chains, Wilson(space, beta), 0)
        assert words.startswith("drift: local updates move ")
        assert f" by {sign}" in words
    assert drift(chains.thinned(20), Wilson(space, 1.6), 0) == ""  # too few to say


def test_configurations_are_moved_once(chains, tmp_path, monkeypatch):
    """What is measured is kept, and each configuration has numbers of its own: one more is moved to compare."""
    action, seen = Wilson(build_space(CONFIG), 1.6), []
    step = HeatBath.step
    monkeypatch.setattr(HeatBath, "step", lambda *given: (seen.append(len(given[2])), step(*given))[1])
    words = [drift(chains, action, 0, Session(Measurements(tmp_path / "kept.h5"))) for _ in range(2)]
    assert words[0] == words[1] == drift(chains, action, 0)
    assert sum(seen) == 4 * (1000 + 1 + 1000)


def test_no_observable_of_a_flow_that_drifts_is_reliable(tmp_path, monkeypatch, capsys):
    runs.train_run(CONFIG, tmp_path)
    runs.sample_run(tmp_path)
    reason = "drift: local updates move plaquette by +5.0 errors"
    monkeypatch.setattr(measure, "drift", lambda *_: reason)
    table = out(capsys, "measure", str(tmp_path))
    assert f"not reliable, {reason}: " in table
    assert "where drift: the flow hardly ever proposes some configurations: mix local updates with it" in table
    found = {entry["reason"] for entry in runs.measure_run(tmp_path)["observables"].values()}
    assert all(own == reason or own.startswith(("stuck", "short", "frozen")) for own in found)
    assert reason in found
    monkeypatch.setattr(measure, "drift", lambda *_: pytest.fail("asked of other updates"))
    other = CONFIG.having(sampling={"updates": ("heatbath",), "n": 60, "thermalise": 2})
    runs.sample_run(tmp_path / "mixed", config=other)
    runs.measure_run(tmp_path / "mixed")


def test_a_state_that_lasts_is_moved_for_each_measurement(tmp_path, monkeypatch):
    """Up to sixteen times; a chain that went on has more measurements of its last state than copies that were kept."""
    runs.train_run(CONFIG.having(action={"beta": 3.0}), tmp_path)
    runs.sample_run(tmp_path)
    path, action, seen = tmp_path / "ensemble.h5", Wilson(build_space(CONFIG), 3.0), []
    step = HeatBath.step
    monkeypatch.setattr(HeatBath, "step", lambda *given: (seen.append(len(given[1].x)), step(*given))[1])
    counts = ChainFile(path).rows(0)[1]
    assert counts.max() > 16
    drift(ChainFile(path), action, 0)
    assert sum(seen) == 4 * counts.clip(max=16).sum()
    end = int(counts.cumsum()[counts > 1][-1]) - 1  # within a stay
    kept = Session(Measurements(tmp_path / "kept.h5"))
    for updates in (end, len(ChainFile(path))):
        drift(ChainFile(path, updates), action, 0, kept)
