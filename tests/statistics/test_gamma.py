"""Series as pyerrors.Obs: the way out and back, and errors of what is derived from them."""

import numpy as np
import pytest
from known_chains import ar1

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import estimate, jackknife, observables_to_pyerrors

CHAINS = {
    "one": ar1(0.8, 3000, seed=1)[0],
    "four": ar1(0.8, 1000, seed=2, chains=4),
    "of different length": [ar1(0.8, n, seed=n)[0] for n in (1000, 300, 2000)],
    "that disagree": ar1(0.5, 300, seed=4, chains=4) + np.arange(4)[:, None],
}


def analysed(obs):
    obs.gamma_method(S=2.0)
    return obs


@pytest.mark.parametrize("series", CHAINS.values(), ids=CHAINS)
def test_round_trip(series):
    obs = analysed(observables_to_pyerrors({"x": series}, "A1")["x"])
    expected = estimate(series)
    assert (obs.value, obs.dvalue) == pytest.approx((expected.value, expected.error), rel=1e-12)
    assert (obs.e_tauint["A1"], obs.e_windowsize["A1"]) == pytest.approx((expected.tau_int, expected.window), rel=1e-12)
    chains = [series] if np.ndim(series[0]) == 0 else series
    assert len(obs.names) == len(chains)
    for name, chain in zip(obs.names, chains, strict=True):
        np.testing.assert_allclose(obs.value + obs.deltas[name], chain, atol=1e-12)


def test_what_is_derived_keeps_correlations_and_the_mean_of_all_chains():
    x = ar1(0.8, 2000, seed=5, chains=4) + 3 + 0.5 * np.arange(4)[:, None]
    y = 2 * x + 0.1 * ar1(0.5, 2000, seed=6, chains=4)
    obs = observables_to_pyerrors({"x": x, "y": y}, "A1")
    ratio = analysed(obs["y"] / obs["x"])
    assert obs["x"].tag == "x"
    # chains that disagree by hundreds of errors, which the ratio does not see
    assert ratio.dvalue < 0.1 * analysed(obs["x"]).dvalue
    mean = x.mean()
    linear = estimate((y - ratio.value * x) / mean)
    assert ratio.dvalue == pytest.approx(linear.error, rel=1e-6)
    own = jackknife(lambda means: means[1] / means[0], list(np.stack([x, y], axis=-1)), bin_size=50)
    assert float(own.error) == pytest.approx(ratio.dvalue, rel=0.15)


def test_pyerrors_makes_the_data_again():
    """Its functions that start from the data, such as `reweight`, see those of every chain."""
    x = ar1(0.8, 500, seed=7, chains=3) + np.arange(3)[:, None]
    w = np.exp(0.3 * x)
    obs = observables_to_pyerrors({"x": x, "w": w}, "A1")
    for name, chain in zip(obs["x"].names, x, strict=True):
        np.testing.assert_allclose(obs["x"].deltas[name] + obs["x"].r_values[name], chain, atol=1e-12)
    import pyerrors  # here, as the import by the room hides its warnings

    (reweighted,) = pyerrors.reweight(obs["w"], [obs["x"]])
    assert reweighted.value == pytest.approx((w * x).sum() / w.sum(), rel=1e-12)
    square = analysed(obs["x"] ** 2)
    assert square.value == pytest.approx(x.mean() ** 2, rel=1e-12)
    assert square.dvalue == pytest.approx(2 * x.mean() * estimate(x).error, rel=1e-9)


def test_names():
    x = ar1(0.5, 100, seed=1, chains=2)
    assert observables_to_pyerrors({"x": x[0]}, "B")["x"].names == ["B"]
    assert observables_to_pyerrors({"x": x}, "B")["x"].names == ["B|r0", "B|r1"]
    assert observables_to_pyerrors({"x": x}, "B", ["hot", "cold"])["x"].names == ["B|cold", "B|hot"]
    for series, ensemble, replica, message in [
        ({"x": x}, "B|r0", None, "must not hold"),
        ({"x": x}, "B", ["a"], "must name each of 2 chains"),
        ({"x": x}, "B", ["a", "a"], "must name each of 2 chains"),
        ({"x": x, "y": x[:, :50]}, "B", None, r"got lengths \[50, 50\] for y"),
        ({"x": [1.0]}, "B", None, "at least 5"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            observables_to_pyerrors(series, ensemble, replica)


def test_series_with_gaps():
    """Every fifth update has the error of its own series; a series of other updates is aligned with it."""
    x = ar1(0.9, 5000, seed=3, chains=2)
    every, thin = range(1, 5001), range(5, 5001, 5)
    fine = observables_to_pyerrors({"x": x}, "A1", idl=every)["x"]
    coarse = observables_to_pyerrors({"x": x[:, 4::5]}, "A1", idl=[list(thin), list(thin)])["x"]
    assert [list(coarse.idl[name]) for name in coarse.names] == [list(thin)] * 2
    assert analysed(coarse).dvalue == pytest.approx(estimate(x[:, 4::5]).error, rel=1e-9)
    assert analysed(fine).dvalue == pytest.approx(estimate(x).error, rel=1e-9)
    unaligned = observables_to_pyerrors({"x": x[:, 4::5]}, "A1", idl=range(1, 1001))["x"]
    # the same configurations, so that the noise cancels
    assert analysed(fine - coarse).dvalue < 0.6 * analysed(fine - unaligned).dvalue


def test_a_gap_in_the_middle_is_no_distance_of_one_update():
    """Two stretches of a slow chain: without the updates, their ends would be taken for neighbours."""
    x = ar1(0.95, 3000, seed=4)[0][np.r_[100:500, 2600:3000]]
    idl = [*range(101, 501), *range(2601, 3001)]
    obs = analysed(observables_to_pyerrors({"x": x}, "A1", idl=idl)["x"])
    assert list(obs.idl["A1"]) == idl
    assert obs.dvalue != pytest.approx(estimate(x).error, rel=1e-6)


@pytest.mark.parametrize(
    ("idl", "message"),
    [
        (range(1, 100), r"idl must name \[100, 100\] updates of the chains, got \[99, 99\]"),
        ([range(1, 101)], r"got \[100\]"),
        ([*range(1, 100), 99], "whole numbers of updates that rise, got"),
        (np.arange(100) / 2, "whole numbers of updates that rise"),
        ([], r"got"),
    ],
)
def test_updates_that_do_not_fit(idl, message):
    with pytest.raises(InvalidInput, match=message):
        observables_to_pyerrors({"x": ar1(0.5, 100, seed=1, chains=2)}, "A", idl=idl)
