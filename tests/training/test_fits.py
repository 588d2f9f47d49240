"""Fits of gradient flows: exact at strong coupling, and what a training makes of them."""

import pytest
import torch

from lattice_flows import SU, GaugeField, runs
from lattice_flows.actions import Wilson
from lattice_flows.config import Config
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.flows import gradient
from lattice_flows.io import read_metrics
from lattice_flows.operators import merged
from lattice_flows.sampling import Streams
from lattice_flows.signals import Stop
from lattice_flows.statistics import ess
from lattice_flows.training.fits import gauss_newton, log_weights, regression, zeros_along_path


def test_a_regression_leaves_what_is_orthogonal(generator):
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(400, generator=generator, dtype=torch.float64)
    x = torch.cat((x, x[:, :1] + 1e-9 * x[:, 1:2]), 1)  # two that are the same but for rounding errors
    fit = regression(x, 5 + x @ torch.tensor([1.0, 2.0, 0.0, 1.0], dtype=torch.float64) + 0.1 * noise)
    assert fit.coefficients.abs().max() < 3
    assert (fit.coefficients - torch.tensor([1.0, 2.0, 0.0, 1.0])).abs().max() < 0.03
    assert fit.left == pytest.approx(0.01 / (4 + 4 + 0.01), rel=0.3)


# 0907.5491, section 3, for all operators of `merged` but the plaquette
LUSCHER = {
    SU(3): (1 / 792, -1 / 952, 5 / 11424, -1 / 3168, 1 / 480, -1 / 320, -1 / 1728),
    SU(4): (1 / 2745, -1 / 3465, 1 / 11088, -1 / 14640, 1 / 2880, -1 / 1440, -1 / 7680),
}


@pytest.mark.parametrize("group", LUSCHER, ids=str)
def test_coefficients_at_strong_coupling_are_those_of_luscher(group):
    """The ratios of c_i to t beta^2 g_i tend to 1, linearly in t; for SU(3) tr PP is a sum of two others."""
    action, operators, ratios = Wilson(GaugeField(group, (4, 4)), beta=1.0), merged(group, 2), []
    expected = torch.tensor(LUSCHER[group], dtype=torch.float64)

    def separate(g):
        return torch.cat((g[:4], g[4:6].sum(0, keepdim=True), g[6:])) if group == SU(3) else g

    for t in (0.05, 0.1):
        streams = Streams(1, 400).branch("fit")
        fit = regression(*zeros_along_path(operators, action.at, t, streams, sweeps=6))
        ratios.append(separate(fit.coefficients[1:] / t) / separate(expected))
    assert fit.left < 1e-7
    extrapolated = 2 * ratios[0] - ratios[1]
    torch.testing.assert_close(extrapolated, torch.ones_like(extrapolated), rtol=0, atol=0.01)


@pytest.mark.slow
def test_fits_bring_a_flow_near_its_target():
    """With log Z of the plaquettes, and a step of Gauss and Newton that lowers the variance."""
    flow = gradient(SU(2), (8, 8), knots=3, steps=2, dtype=torch.float64)
    layer, action = flow.layers[0], Wilson(flow.space, beta=1.0)
    begin = action.at(0.0)
    for k, knot in enumerate(layer.knots):
        streams = Streams(1, 300).branch("fit", k)
        fit = regression(*zeros_along_path(layer.operators, action.at, knot, streams, 10))
        layer.coefficients.data[k] = fit.coefficients
    x = flow.space.prior(400, torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        before = log_weights(layer, begin, action, x)
    gauss_newton(layer, begin, action, x)
    with torch.no_grad():
        after = log_weights(layer, begin, action, x)
    assert ess(before) > 0.95
    assert after.var() < 0.5 * before.var()


SETTINGS = {
    "lattice": {"group": "SU(2)", "extents": (8, 8)},
    "action": {"beta": 0.5},
    "flow": {"architecture": "gradient", "operators": "production", "knots": 3, "steps": 3},
    "training": {
        "device": "cpu", "fit_chains": 64, "fit_sweeps": 5, "newton_steps": 1, "steps": 3, "batch": 16,
        "stages": ("least_squares", "gauss_newton", "reverse_kl"), "dtype": "float64",
    },
}  # fmt: skip


def changed(**training):
    return Config.of(**SETTINGS | {"training": SETTINGS["training"] | training})


@pytest.mark.slow
def test_a_run_trains_a_flow_by_fits_and_goes_on_bit_for_bit(tmp_path):
    """All stages, in one go and stopped within the first."""

    class Soon(Stop):
        asked = property(lambda self: True)

    runs.train_run(changed(), tmp_path / "whole")
    with pytest.raises(Interrupted, match="step 1 of 7"):
        runs.train_run(changed(), tmp_path / "stopped", stop=Soon())
    runs.train_run(changed(), tmp_path / "stopped")
    one, two = (runs.load_model(tmp_path / name).flow.layers[0].coefficients for name in ("whole", "stopped"))
    assert torch.equal(one, two)
    metrics = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [own["stage"] for own in metrics] == ["least_squares"] * 3 + ["gauss_newton"] + ["flow"] * 3
    assert metrics[0]["ess"] < metrics[3]["ess"] > 0.99
    runs.sample_run(tmp_path / "whole", ["sampling.n=20"])
    errors = runs.measure_run(tmp_path / "whole")["integrator"]
    assert 1e-8 < abs(errors["mean"]) < 0.01
    assert "the steps of the flow change log w by" in (tmp_path / "whole" / "report.txt").read_text()


def test_bad_input_is_named():
    with pytest.raises(InvalidInput, match="fit_chains must be at least 24"):
        runs.train_run(changed(fit_chains=20), "nowhere")
    with pytest.raises(InvalidInput, match="a list of least_squares, gauss_newton, reverse_kl"):
        changed(stages=("fit",))
