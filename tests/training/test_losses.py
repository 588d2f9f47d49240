"""The gradient estimators: one expectation, three variances."""

import functools

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Wilson
from lattice_flows.actions.phi4 import Phi4
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import affine
from lattice_flows.training import ESTIMATORS, forward_path, likelihood, path, reinforce, reparametrisation


def gradients(estimate, flow, action, repeats, n, seed):
    """Independent estimates `(repeats, parameters)` of the gradient."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(repeats):
        flow.zero_grad()
        estimate(flow, action, flow.sample_prior(n, generator)).surrogate.backward()
        rows.append(torch.cat([parameter.grad.flatten() for parameter in flow.parameters()]))
    return torch.stack(rows)


def links_of(group):
    flow = cases.flow(group, (3, 3), layers=2, dtype=torch.float64)
    return flow, Wilson(flow.space, 1.0)


def scalars():
    flow = affine((4, 4), layers=4, hidden=(4, 4), seed=0, dtype=torch.float64)
    return flow, Phi4(flow.space, m2=1.0, lambda_=0.5)


FIELDS = {**{str(group): functools.partial(links_of, group) for group in (U1(), SU(2), SU(3))}, "scalars": scalars}


@pytest.mark.slow
@pytest.mark.parametrize("make", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("name", ["path", "reinforce"])
def test_estimators_agree_in_expectation(make, name):
    """With reparametrisation as the reference, the pulls of all parameters together are those of noise."""
    flow, action = make()
    one = gradients(reparametrisation, flow, action, 100, 64, seed=1)
    two = gradients(ESTIMATORS[name], flow, action, 100, 64, seed=2)
    error = (one.var(0) / len(one) + two.var(0) / len(two)).sqrt()
    felt = error > 1e-12
    pull = ((one.mean(0) - two.mean(0)) / error)[felt]
    assert felt.sum() > 100
    assert pull.abs().max() < 5
    # the parameters share their samples, so the pulls are correlated: their mean square is 1 with a wide spread
    assert pull.square().mean() < 2


@pytest.mark.slow
def test_reinforce_is_unbiased_in_the_smallest_batch():
    """Two samples, each the other's baseline: a mean over both as baseline would halve the gradient."""
    flow = cases.flow(U1(), (3, 3), layers=1, dtype=torch.float64)
    action = Wilson(flow.space, 2.0)
    reference = gradients(reparametrisation, flow, action, 20, 512, seed=1).mean(0)
    along = gradients(reinforce, flow, action, 1500, 2, seed=2) @ reference / reference.square().sum()
    error = along.std() / len(along) ** 0.5
    assert error < 0.1
    assert (along.mean() - 1).abs() < 4 * error


def test_value_is_the_kl_divergence_up_to_log_z():
    """-mean log w = KL - log Z, and by Jensen it is >= -log Z, here of independent links: Z = 1 for S = 0."""
    flow = cases.flow(U1(), (3, 4), layers=2, dtype=torch.float64)
    for layer in flow.layers:
        torch.nn.init.normal_(layer.context.head.bias, std=1.5)
    for estimate in ESTIMATORS.values():
        x = flow.sample_prior(4000, torch.Generator().manual_seed(0))
        value = estimate(flow, lambda links: links.new_zeros(len(links)), x)
        divergence = -value.log_w
        error = divergence.std() / len(divergence) ** 0.5
        assert divergence.mean() > 4 * error
        # E_q[w] = Z = 1
        weight = value.log_w.exp()
        assert (weight.mean() - 1).abs() < 4 * weight.std() / len(weight) ** 0.5


def test_path_gradient_vanishes_where_q_equals_p():
    """With p = q every single path gradient is 0, while the other estimators fluctuate."""
    flow = cases.flow(SU(2), (3, 4), layers=2, dtype=torch.float64)
    target = cases.flow(SU(2), (3, 4), layers=2, dtype=torch.float64)
    size = {}
    for name, estimate in ESTIMATORS.items():
        size[name] = gradients(estimate, flow, lambda links: -target.log_prob(links), 3, 16, seed=0).abs().max()
    assert size["path"] < 1e-10
    assert size["reparametrisation"] > 1e-4
    # its control variate takes the mean advantage out, which is all there is when q = p
    assert size["reinforce"] < 1e-10


def test_reinforce_takes_no_derivative_of_the_action():
    flow = cases.flow(U1(), (3, 4), layers=2)

    def action(links):
        assert not torch.is_grad_enabled()
        return Wilson(flow.space, 1.0)(links)

    reinforce(flow, action, flow.sample_prior(8)).surrogate.backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in flow.parameters())
    with pytest.raises(InvalidInput, match="at least 2"):
        reinforce(flow, action, flow.sample_prior(1))


def test_path_leaves_no_gradient_behind():
    """Its inner derivative is with respect to the links alone."""
    flow = cases.flow(U1(), (3, 4), layers=2)
    path(flow, Wilson(flow.space, 1.0), flow.sample_prior(8))
    assert all(parameter.grad is None for parameter in flow.parameters())


def far(flow, seed):
    """A flow of stripes far from the identity."""
    for layer in flow.layers:
        torch.nn.init.normal_(layer.context.head.bias, generator=torch.Generator().manual_seed(seed))
    return flow


def stirred(flow, seed):
    """A flow of scalars far from white noise."""
    for head in (layer.scale for layer in list(flow.layers)[1:]):
        torch.nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(seed))
    return flow


FORWARD = {
    "U(1)": lambda seed: far(cases.flow(U1(), (3, 3), layers=2, seed=seed, dtype=torch.float64), seed),
    "U(1) hierarchical": lambda seed: cases.hierarchical_flow(U1(), (2, 2), ("f",), scale=0.1, seed=seed),
    "scalars": lambda seed: stirred(affine((4, 2), layers=2, hidden=(4,), seed=seed, dtype=torch.float64), seed),
    "SU(2) hierarchical": lambda seed: cases.hierarchical_flow(SU(2), (2, 2), ("cr",), scale=0.1, seed=seed),
}


@pytest.mark.parametrize("make", list(FORWARD.values())[:3], ids=list(FORWARD)[:3])
def test_forward_estimators_agree_in_expectation(make):
    """On samples of a target, which is another flow: the same value, and gradients whose pulls are those of noise."""
    flow, target = make(0), make(1)

    def action(links):
        return -target.log_prob(links)

    def rows(estimate, seed):
        def once(flow, action, x):
            return estimate(flow, action, target.transform(x).links.detach())

        return gradients(once, flow, action, 40, 64, seed)

    links = target.sample(200, generator=torch.Generator().manual_seed(0)).links
    one, two = (estimate(flow, action, links) for estimate in (likelihood, forward_path))
    torch.testing.assert_close(one.log_w, two.log_w, atol=1e-7, rtol=0)
    one, two = rows(likelihood, 1), rows(forward_path, 2)
    error = (one.var(0) / len(one) + two.var(0) / len(two)).sqrt()
    felt = error > 1e-9
    pull = ((one.mean(0) - two.mean(0)) / error)[felt]
    assert felt.sum() > 100
    assert pull.abs().max() < 6
    assert pull.square().mean() < 2
    assert one.mean(0).norm() > 3 * error.norm()


@pytest.mark.parametrize("make", FORWARD.values(), ids=FORWARD)
def test_forward_path_gradient_vanishes_where_q_equals_p(make):
    flow, target = make(0), make(0)
    links = target.sample(16, generator=torch.Generator().manual_seed(0)).links
    size = {}
    for estimate in (likelihood, forward_path):
        flow.zero_grad()
        value = estimate(flow, lambda links: -target.log_prob(links), links)
        value.surrogate.backward()
        size[estimate] = max(parameter.grad.abs().max() for parameter in flow.parameters())
        assert value.log_w.abs().max() < 1e-8
    assert size[forward_path] < 1e-6
    assert size[likelihood] > 1e-3
