"""The claims of experiments/transport_4d: stages and time at equal variance, predictions, log Z."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "transport_4d"
sys.path.insert(0, str(FOLDER))

import many_paths  # noqa: E402
import transport  # noqa: E402
from tables import with_table  # noqa: E402

FOUND, MANY = (
    json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in ("expected.json", "expected_ess.json")
)
BEST = "plaquette + Q', 2 OR"


@pytest.mark.parametrize("row", [row for row in FOUND if not row.startswith("4^4")])
def test_a_flow_saves_stages_and_time(row):
    """Six times as many stages and twice the time, within two errors."""
    gain = transport.gains(FOUND[row])[BEST]
    assert gain["stages"][0] + 2 * gain["stages"][1] >= 6
    assert gain["time"][0] + 2 * gain["time"][1] >= 2
    assert gain["stages"][0] > 5
    assert gain["time"][0] > 1.8


@pytest.mark.parametrize("row", FOUND)
def test_fits_predict_the_variance(row):
    for own in FOUND[row]["protocols"].values():
        value, error = transport.products(own)
        assert abs(own["predicted"] / value - 1) < 0.3 + 2 * error / value


@pytest.mark.parametrize("row", MANY)
def test_weights_find_log_z_and_the_plaquette(row):
    own = MANY[row]
    for one, other in (("log_z", "log_z_integrated"), ("plaquette", "plaquette_heat_bath")):
        error = (own[f"{one}_error"] ** 2 + own[f"{other}_error"] ** 2) ** 0.5
        assert abs(own[one] - own[other]) < 4 * error
    assert own["paths"] >= 4096


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{transport.table(FOUND)}\n\n{many_paths.table_of_many(MANY)}\n")
