"""What experiments/scaling claims is what was recorded there, and its model is that of what was recorded."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "scaling"
MEASURED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import model

    yield model
    del sys.modules["model"]


def test_claims():
    """Efficiency, the share of communication, and memory that does not grow with the number of ranks."""
    one, two = (MEASURED["step"][ranks] for ranks in "12")
    assert MEASURED["efficiency"] >= 0.9
    assert MEASURED["communication_share"] <= 0.05
    assert two["peak_mib"] < one["peak_mib"]


def test_readme_says_what_was_recorded(model):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    one, two = (MEASURED["step"][ranks] for ranks in "12")
    assert f"**Parallel efficiency on two ranks: {MEASURED['efficiency']:.2f}**" in text
    assert f"| step | {one['seconds']:.3f} s | {two['seconds']:.3f} s |" in text
    assert f"({MEASURED['communication_share']:.2%})".replace("%", " %") in text
    assert f"| {one['peak_mib']:.0f} MiB | {two['peak_mib']:.0f} MiB |" in text
    fitted = model.Model(MEASURED)
    for ranks in (16, 128):
        row = (fitted.weak(ranks, 128), fitted.strong(ranks, 128 * 128), fitted.strong(ranks, 128))
        assert f"| {ranks} | {' | '.join(f'{value:.3f}' for value in row)} |" in text


def test_the_model_fits_what_it_is_made_of(model):
    """Within a tenth, over a factor of eight in the batch."""
    fitted = model.Model(MEASURED)
    for batch, seconds in MEASURED["seconds_by_batch"].items():
        assert fitted.step(1, int(batch)) == pytest.approx(seconds, rel=0.1)
    assert fitted.strong(1, 128) == fitted.weak(1, 128) == 1
    assert fitted.strong(4, 128) < fitted.strong(2, 128) < 1
