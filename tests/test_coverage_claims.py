"""The claims of experiments/coverage: where quoted errors cover the truth as errors should, and where they do not."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "coverage"
sys.path.insert(0, str(FOLDER))

import coverage  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def as_errors_should(shares):
    """Within 68 +- 4 and 95 +- 2 percent."""
    return shares == [pytest.approx(0.68, abs=0.04), pytest.approx(0.95, abs=0.02)]


@pytest.mark.parametrize("name", [name for name, parts in coverage.CHAINS.items() if len(parts) == 1])
def test_autoregressive_chains_are_covered_at_every_length_that_a_reader_sees(name):
    """In long ones the error of log tau_int is somewhat large."""
    for band, own in FOUND[name]["seen"].items():
        assert own["n"] > 1900
        assert own["value"] == [pytest.approx(0.68, abs=0.04), pytest.approx(0.95, abs=0.022)]
        assert as_errors_should(own["log tau_int"]) or (band != "200-300" and own["log tau_int"] < [0.75, 0.975])
    assert not as_errors_should(FOUND[name]["seen"]["200-300"]["tau_int"])  # symmetric errors do not


def test_effective_sample_sizes_are_covered_on_average_over_weights():
    for n in map(str, coverage.SAMPLES):
        found = [FOUND[name][n] for name in coverage.WEIGHTS if FOUND[name][n]["ESS"]]
        pooled = [
            sum(own["reliable"] * own["ESS"][i] for own in found) / sum(own["reliable"] for own in found)
            for i in (0, 1)
        ]
        assert pooled == [pytest.approx(0.68, abs=0.05), pytest.approx(0.95, abs=0.02)]


def test_log_z_is_covered_where_the_weights_have_a_second_moment():
    for name in ("sigma 0.5", "sigma 0.75", "sigma 1.0", "k 0.1", "k 0.2", "k 0.3"):
        assert all(as_errors_should(own["log Z"]) for own in FOUND[name].values())


def test_copies_show_a_drift():
    for name in coverage.NARROW:
        own = FOUND[name]
        assert own["moved in copies"]["within 3"] >= 0.98
        assert own["all"]["within 3"] < 0.96


def test_a_study_again():
    """The first of the lengths, with fewer chains, within four standard errors."""
    rows = coverage.pulls_of_chains("tau 3", coverage.LENGTHS[-3:], 60)
    recorded = FOUND["tau 3"]["true"]["450-700"]["value"][0]
    assert coverage.within(rows[:, 3])[0] == pytest.approx(recorded, abs=4 * (0.7 * 0.3 / len(rows)) ** 0.5)


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, coverage.table(FOUND))
