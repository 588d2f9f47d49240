"""What the figures show is what the numbers say."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from lattice_flows.reports import figures
from lattice_flows.statistics import Moves, autocorrelation, estimate


def walk(n, chains=1, stay=0.9, seed=0):
    """Chains of integers that sit, and now and then forget everything."""
    rng = np.random.default_rng(seed)
    fresh = rng.integers(-2, 3, size=(chains, n)).astype(float)
    last = np.maximum.accumulate(np.where(rng.random((chains, n)) < stay, 0, np.arange(n)), axis=1)
    return np.take_along_axis(fresh, last, axis=1)


def words(figure: Figure) -> str:
    """All text of a figure, which is drawn for it."""
    figure.savefig(io.BytesIO())
    texts = [axes.get_title() for axes in figure.axes] + [
        text.get_text() for axes in figure.axes for text in axes.texts
    ]
    legends = [axes.get_legend() for axes in figure.axes]
    return "\n".join(texts + [text.get_text() for legend in legends if legend for text in legend.get_texts()])


@pytest.mark.parametrize(("n", "chains", "panels"), [(300, 1, 1), (501, 1, 2), (20_000, 1, 2), (3000, 6, 2)])
def test_history_shows_every_jump(n, chains, panels):
    series = 0.1 * np.random.default_rng(1).normal(size=(chains, n))
    series[0, n // 3] = 9.0  # a single update far away
    figure = figures.history(series if chains > 1 else series[0], "Q")
    text = words(figure)
    assert len(figure.axes) == panels
    assert f"History of the Q, {n} updates" in text
    assert ("4 of 6 chains" in text) == (chains == 6)
    assert figure.axes[0].get_ylim()[1] > 9
    assert len(figure.axes[-1].lines) == min(chains, 4)
    np.testing.assert_array_equal(figure.axes[-1].lines[0].get_ydata(), series[0, :500])


@pytest.mark.parametrize("series", [walk(4000)[0], walk(2000, chains=3)], ids=["one", "three"])
def test_window_is_marked(series):
    figure = figures.autocorrelation_window(series, "Q")
    result = estimate(series)
    assert rf"window {result.window}: $\tau_\mathrm{{int}}$ = " in words(figure)
    upper, lower = figure.axes
    _, rho, tau_int, _, _ = autocorrelation(series)
    for axes, values in ((upper, rho), (lower, tau_int)):
        marked = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [list(line.get_xdata()) for line in marked] == [[result.window] * 2]
        shown = axes.lines[0].get_ydata()
        assert len(shown) > result.window
        np.testing.assert_array_equal(shown, values[: len(shown)])


def test_no_number_where_there_is_none():
    rounding = 1e-6 * np.random.default_rng(2).normal(size=50)
    assert words(figures.topological_histogram(3 + rounding)).splitlines()[1].endswith(", frozen: no chain moves")
    for frozen in (np.zeros(50), np.repeat([[0.0], [1.0]], 50, axis=1)):
        text = words(figures.autocorrelation_window(frozen, "Q"))
        assert "frozen" in text
        assert "nan" not in text
        assert "window" not in text
        assert words(figures.topological_histogram(frozen)).splitlines()[1].endswith(", frozen: no chain moves")
    moves = Moves.of(np.arange(3000) % 500 == 0)
    stuck = (
        figures.topological_histogram(walk(3000)[0], moves),
        figures.autocorrelation_window(walk(3000)[0], "Q", moves),
    )
    assert all("stuck: 6 distinct configurations" in words(figure) for figure in stuck)
    assert not any(map(len, stuck[0].axes[0].containers[0].lines[2][0].get_segments()))
    short = words(figures.autocorrelation_window(np.arange(50.0), "Q"))
    assert "short: " in short
    assert r"\tau" not in short


def test_axes_count_updates():
    """Where a measurement is made after every fifth, too."""
    series = walk(2000, stay=0.5)[0]
    figure = figures.history(series, "Q", every=5)
    assert "History of the Q, 10000 updates" in words(figure)
    assert "The first 2500 updates" in words(figure)
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), np.arange(5, 2501, 5))
    figure, result = figures.autocorrelation_window(series, "Q", every=5), estimate(series, every=5)
    assert result.window % 5 == 0
    assert f"window {result.window}: " in words(figure)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata()[:3], [0, 5, 10])
    assert [list(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "--"] == [
        [result.window] * 2
    ]


@pytest.mark.parametrize("charge", [walk(3000)[0], walk(1000, chains=3) + 1e-5], ids=["one", "three, rounded"])
def test_topological_histogram(charge):
    figure = figures.topological_histogram(charge)
    bars, errors = figure.axes[0].containers[1], figure.axes[0].containers[0]
    sectors = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
    heights = np.array([bar.get_height() for bar in bars])
    np.testing.assert_allclose(sectors, np.arange(-3, 4), atol=1e-12)
    assert heights.sum() == pytest.approx(1)
    ends = errors.lines[2][0].get_segments()
    for q, height, segment in zip(sectors, heights, ends, strict=True):
        share = estimate(np.round(charge) == round(q))
        assert height == pytest.approx(share.value)
        if share.reliable:
            assert (segment[1, 1] - segment[0, 1]) / 2 == pytest.approx(share.error, abs=1e-12)
        assert (len(segment) > 0) == np.isfinite(share.error)
    mirror = figure.axes[0].lines[-1]
    np.testing.assert_allclose(mirror.get_ydata(), heights[::-1])
    assert rf"$\langle Q \rangle$ = {estimate(np.round(charge))}" in words(figure)


def test_histogram_of_a_charge_that_is_no_integer():
    charge = np.random.default_rng(3).normal(size=2000)
    figure = figures.topological_histogram(charge)
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
    assert {round(bar.get_width(), 12) for bar in bars} == {0.1}
    words(figure)


def test_potential():
    distance = np.arange(1, 6)[:, None]
    value, error = 0.2 * distance + [0.01, 0.0], 0.001 * distance**2 * [1.0, 2.0]
    value[4, 1] = np.nan
    value[3, 1], error[3, 1] = 50.0, 40.0
    figure = figures.potential(value, error)
    words(figure)
    shown = [container.lines[0] for container in figure.axes[0].containers]
    for column, line in enumerate(shown):
        np.testing.assert_array_equal(line.get_ydata(), value[:, column])
        np.testing.assert_array_equal(np.round(line.get_xdata()), distance[:, 0])
    low, high = figure.axes[0].get_ylim()
    assert low < 0.2  # noise does not set the range
    assert 1.01 < high < 2
    words(figures.potential(np.full((2, 1), np.nan), np.full((2, 1), np.nan)))
