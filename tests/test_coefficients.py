"""The claims of experiments/coefficients: exact coefficients, and fits that tend to them."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "coefficients"
sys.path.insert(0, str(FOLDER))

import fit  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FOUND)
def test_fits_tend_to_the_exact_coefficients(name):
    own = FOUND[name]
    assert own["exact"] == pytest.approx(own["published"], rel=1e-12)
    for ratio, error in own["ratios"].values():
        assert abs(ratio - 1) < 0.01 + 3 * error
        assert error < 0.01
    assert own["error_of_equations"] < 1e-15


def test_the_algebra_gives_the_recorded_orders():
    _, second, error = fit.orders(4, 3)
    recorded = {tuple(own["loops"]): own["coefficient"] for own in FOUND["SU(4), 3 dimensions"]["next_order"]}
    found = {tuple(map(fit.in_words, monomial)): c for monomial, c in second.items() if abs(c) > 1e-15}
    assert found == pytest.approx(recorded, rel=1e-9)
    assert max(sum(map(len, monomial)) for monomial in second) == 12
    assert error < 1e-15


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, fit.table(FOUND))
