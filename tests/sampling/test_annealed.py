"""Annealed sampling: exact free energies and means from weights, with layers, with resampling, chain by chain."""

import math

import pytest
import torch
from sampler_cases import Gaussian, stirred

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Symanzik, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value, log_partition
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.sampling.annealing import Annealing, systematic
from lattice_flows.sampling.base import SweepInfo, start
from lattice_flows.sampling.metropolis import Metropolis
from lattice_flows.sampling.work import log_weights, log_z_ratio, weighted_mean
from lattice_flows.statistics import ess
from lattice_flows.streams import Streams

LATTICE = (3, 4)
TARGETS = [(U1(), 1.0), (SU(2), 1.2), (SU(3), 2.0)]
STAGES = 6


def wilson(group, beta):
    """The Wilson action on the lattice of all these tests."""
    return Wilson(GaugeField(group, LATTICE), beta)


def schedule(group, beta, stages=STAGES, first=0.0):
    """Metropolis at couplings in equal steps."""
    betas = [first + (beta - first) * (i + 1) / stages for i in range(stages)]
    return [Metropolis(wilson(group, b), hits=2) for b in betas]


def some_layers(group):
    """Layers at two of the stages."""
    return [stirred(group, seed=0), None, None, stirred(group, seed=1)] + [None] * (STAGES - 4)


def pull(result, exact):
    value, error = result
    return ((value - exact) / error).abs().item()


@pytest.mark.parametrize("population", [1, 4])
@pytest.mark.parametrize("layers", [False, True], ids=["updates", "layers"])
@pytest.mark.parametrize(("group", "beta"), TARGETS, ids=str)
def test_free_energy_and_plaquette_are_exact(group, beta, layers, population):
    chains = 120
    streams = Streams(seed=11, chains=chains)
    annealing = Annealing(
        schedule(group, beta),
        layers=some_layers(group) if layers else None,
        population=population,
        resample_below=0.8,
    )
    x = start(GaugeField(group, LATTICE), streams, dtype=torch.float64)
    if layers:
        _, logdet = annealing.layers[0](x)
        assert logdet.std() > 0.15
    result = annealing.run(x, streams)
    for stage in (2, STAGES - 1):
        reached = log_z_ratio(result.history[stage], population)
        assert pull(reached, log_partition(group, beta * (stage + 1) / STAGES, 12)) < 4
        assert reached[1] < 0.5
    assert pull(log_z_ratio(result.log_w, population), log_partition(group, beta, 12)) < 4
    action = wilson(group, beta)
    plaquettes = average_plaquette(action.space)(result.x)
    mean = weighted_mean(plaquettes, result.log_w, population)
    assert pull(mean, exact_value("plaquette", action)) < 4
    assert mean[1] < 0.1  # over streams .031 +- .010 at most, so that .05 is two of its own errors away
    torch.testing.assert_close(result.action, action(result.x), atol=1e-10, rtol=0)
    assert result.acceptance.shape == (STAGES, chains)
    assert action.space.group.defect(result.x).max() < 1e-10
    died = len(result.ancestors.unique()) < chains
    assert died == (population > 1)


class Rest(Metropolis):
    """Leaves chains where they are, so that layers and resampling are all that moves them."""

    def step(self, state, streams):
        return state, SweepInfo(torch.ones_like(state.action))


@pytest.mark.parametrize("population", [1, 4])
@pytest.mark.parametrize(("group", "n"), [(U1(), 1600), (SU(2), 400)], ids=str)
@torch.no_grad()
def test_weights_of_a_layer_and_of_resampling(group, n, population):
    """One stage without updates, where what weights must be is known configuration by configuration."""
    action, flow, streams = wilson(group, 0.3), stirred(group), Streams(seed=21, chains=n)
    x = start(action.space, streams, dtype=torch.float64)
    result = Annealing([Rest(action)], layers=[flow], population=population, resample_below=1.0).run(x, streams)
    images, _ = flow(x)
    torch.testing.assert_close(result.x, images[result.ancestors], atol=1e-9, rtol=0)
    old, new = (x.unflatten(0, (-1, population)).logsumexp(1) for x in (result.history[0], result.log_w))
    torch.testing.assert_close(new, old)
    if population > 1:
        assert (result.log_w.unflatten(0, (-1, population)).std(1) < 1e-12).all()
    found = log_z_ratio(result.log_w, population)
    assert found[1] < 0.05
    assert pull(found, log_partition(group, 0.3, 12)) < 4
    plaquettes = weighted_mean(average_plaquette(action.space)(result.x), result.log_w, population)
    assert pull(plaquettes, exact_value("plaquette", action)) < 4


def test_it_may_begin_at_another_coupling(generator):
    """Two couplings apart, the free energies differ by what they should."""
    low, high, n = 1.0, 2.0, 200
    action = wilson(U1(), low)
    x = exact_samples(action, n, generator=generator)
    result = Annealing(schedule(U1(), high, stages=3, first=low), start=action).run(x, Streams(3, n))
    expected = log_partition(U1(), high, 12) - log_partition(U1(), low, 12)
    assert pull(log_z_ratio(result.log_w), expected) < 4
    assert log_z_ratio(result.log_w)[1] < 0.2


def test_slower_schedules_do_less_work():
    """Work beyond the difference of free energies is what ESS is lost to; a slow schedule is nearly reversible."""
    streams = Streams(seed=0, chains=100)
    x = start(GaugeField(U1(), LATTICE), streams, dtype=torch.float64)
    fast, slow = (Annealing(schedule(U1(), 2.0, stages)).run(x, streams).log_w for stages in (2, 20))
    assert ess(slow) > 2 * ess(fast)
    assert slow.mean() - fast.mean() > 0


@pytest.mark.parametrize(
    ("group", "dtype"), [(U1(), torch.float32), (SU(2), torch.float64), (SU(4), torch.float64)], ids=str
)
def test_populations_depend_on_nothing_beside_them(group, dtype):
    @torch.no_grad()
    def run(chains, population):
        streams = Streams(seed=5, chains=chains)
        layers = [stirred(group, dtype=dtype), None]
        annealing = Annealing(schedule(group, 2.0, 2), layers=layers, population=population, resample_below=1.0)
        return annealing.run(start(annealing.space, streams, dtype=dtype), streams)

    for population in (1, 2):
        together = run(6, population)
        assert together.x.dtype == group.element_dtype(dtype)
        alone = run(range(4, 4 + population), population)
        for name in ("x", "action", "log_w"):
            assert torch.equal(getattr(together, name)[4 : 4 + population], getattr(alone, name)), name


def test_runs_differ_and_repeat_from_the_state_of_the_streams():
    streams = Streams(seed=2, chains=4)
    annealing = Annealing(schedule(U1(), 1.0, 2), population=2, resample_below=1.0)
    x = start(annealing.space, streams)
    state = streams.get_state()
    first, second = annealing.run(x, streams), annealing.run(x, streams)
    streams.set_state(state)
    again = annealing.run(x, streams)
    assert not torch.equal(first.x, second.x)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


class Shifted(Wilson):
    """S + c, which no ratio of couplings gives from S."""

    def forward(self, x):
        return super().forward(x) + 2.5

    def cells(self, device="cpu"):
        return Wilson(self.space, self.beta).cells(device)

    def conditional(self, flat, cell):
        return Wilson(self.space, self.beta).conditional(flat, cell)


def test_a_constant_in_the_action_cancels():
    """Between couplings at all, and from the prior but for itself; the chains are the same."""
    space, streams = GaugeField(SU(2), LATTICE), Streams(4, 50)
    state = streams.get_state()

    def weights(kind, start_beta):
        streams.set_state(state)
        action = kind(space, 1.0)
        annealing = Annealing(
            [Metropolis(action.at(beta), hits=1) for beta in (0.5, 1.0, 1.5)],
            start=None if start_beta is None else action.at(start_beta),
        )
        return annealing.run(start(space, streams, dtype=torch.float64), streams)

    for start_beta, shift in ((0.0, 0.0), (None, -2.5)):
        plain, shifted = weights(Wilson, start_beta), weights(Shifted, start_beta)
        assert torch.equal(plain.x, shifted.x)
        torch.testing.assert_close(shifted.log_w, plain.log_w + shift, atol=1e-10, rtol=0)
    x = plain.x
    torch.testing.assert_close(log_weights(Shifted(space, 1.0), x, 1.5), log_weights(Wilson(space, 1.0), x, 1.5))


@pytest.mark.parametrize("kind", [Wilson, Symanzik])
def test_weights_in_beta(kind, generator):
    """Of an action proportional to beta they are (1 - beta' / beta) S."""
    action = kind(GaugeField(SU(3), LATTICE), 2.0)
    x = action.space.prior(5, generator, dtype=torch.float64)
    torch.testing.assert_close(log_weights(action, x, 2.5), -0.25 * action(x), atol=1e-12, rtol=0)
    assert action.beta == 2.0
    # most digits of the actions cancel: in single precision none of the others would be left
    single = x.to(torch.complex64)
    torch.testing.assert_close(log_weights(action, single, 2.0 + 1e-7), -5e-8 * action(x), atol=1e-11, rtol=1e-4)
    with pytest.raises(InvalidInput, match="no coupling beta"):
        log_weights(Gaussian((2, 2), 1.0), torch.zeros(1, 2, 2), 2.0)


def test_a_scalar_field_is_annealed_from_its_prior():
    """log Z of a free field, relative to the normal prior, and <phi^2>."""
    target, streams = Gaussian((2, 2), 1.5), Streams(6, 500)
    stages = [Gaussian((2, 2), m2) for m2 in (2.0, 1.5)]
    x = start(target.space, streams, dtype=torch.float64)
    result = Annealing([Metropolis(action, hits=2) for action in stages]).run(x, streams)
    modes = torch.autograd.functional.hessian(lambda v: target(v.reshape(2, 2)), torch.zeros(4, dtype=torch.float64))
    # Z = (2 pi)^(V / 2) / sqrt(det) in Lebesgue measure
    exact = 2 * math.log(2 * math.pi) - torch.logdet(modes).item() / 2
    found = log_z_ratio(result.log_w)
    assert pull(found, exact) < 4
    assert found[1] < 0.2
    squares = weighted_mean(result.x.square().flatten(1).mean(1), result.log_w)
    assert pull(squares, target.exact_square()) < 4


def test_systematic_draws_are_proportional_and_balanced(generator):
    log_w = torch.randn(7, generator=generator, dtype=torch.float64)
    log_w[2] = -torch.inf
    expected = 7 * log_w.softmax(0)
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    counts = torch.stack([systematic(log_w, u).bincount(minlength=7) for u in grid]).double()
    assert (counts >= expected.floor()).all()
    assert (counts <= expected.ceil()).all()
    torch.testing.assert_close(counts.mean(0), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("population", [1, 5])
def test_errors_are_those_of_repeated_runs(population, generator):
    """On log-normal weights that agree within populations: pulls have unit width, whatever the population."""
    shape = (3000, 300 // population, 1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).expand(-1, -1, population).flatten(1)
    log_w = 0.5 * x
    for result, exact in ((log_z_ratio(log_w, population), 0.125), (weighted_mean(x, log_w, population), 0.5)):
        pulls = (result[0] - exact) / result[1]
        assert (pulls.std() - 1).abs() < 0.12
        assert pulls.mean().abs() < 0.5
    shifted = log_z_ratio(log_w + 5000, population)
    torch.testing.assert_close(shifted[0], log_z_ratio(log_w, population)[0] + 5000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: Annealing([]), "at least one stage"),
        (lambda s: Annealing(s, layers=[None]), "for each of 2 stages, got 1"),
        (lambda s: Annealing(s, updates=0), "updates must be an integer >= 1, got 0"),
        (lambda s: Annealing(s, population=True), "population must be an integer >= 1"),
        (lambda s: Annealing(s, resample_below=2.0), "between 0 and 1, got 2.0"),
        (lambda s: Annealing(s, population=2).run(torch.zeros(3, 2, 3, 4), Streams(0, 3)), "populations of 2, got 3"),
        (lambda s: Annealing(s).run(torch.zeros(3, 2, 3, 4), Streams(0, 2)), "must be 2 as the streams"),
        (lambda s: log_z_ratio(torch.zeros(5), population=5), "two or more populations of 5"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make(schedule(U1(), 1.0, 2))
