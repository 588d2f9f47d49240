"""The perceptron on boundaries, and the beta that it may see."""

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.planar.perceptron import BetaInput, BoundaryContext, n_boundary_features


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
def test_parameters_are_0_until_it_is_trained(group, generator):
    context = BoundaryContext(group, 7, hidden=(5, 6))
    features = torch.randn(4, 3, n_boundary_features(group), generator=generator)
    assert context(features).shape == (4, 3, 7)
    assert (context(features) == 0).all()
    cases.stir(context)
    assert (context(features) != 0).all()
    # each element on its own
    torch.testing.assert_close(context(features)[2, 1], context(features[2, 1]))
    context.reset()
    assert (context(features) == 0).all()
    context(features).sum().backward()
    assert context.head.weight.grad.abs().min() > 0


def test_the_last_layer_sees_the_features(generator):
    """A context of U(1) can be linear in cos(W / 2), which is what two plaquettes take."""
    context = BoundaryContext(U1(), 2, hidden=(5,))
    with torch.no_grad():
        context.head.weight[1, 5] = 3.0
    features = torch.randn(10, n_boundary_features(U1()), generator=generator)
    torch.testing.assert_close(context(features), torch.stack((torch.zeros(10), 3 * features[:, 0]), dim=-1))


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_contexts_see_beta(dtype, generator):
    """As one more feature, -1 at the lowest and 1 at the highest coupling; one module for all that share it."""
    beta_input = BetaInput(1.0, 5.0)
    contexts = [cases.stir(BoundaryContext(SU(2), 3, hidden=(5,), beta_input=beta_input)).to(dtype) for _ in range(2)]
    assert contexts[0].beta_input is contexts[1].beta_input
    features = torch.randn(4, n_boundary_features(SU(2)), generator=generator, dtype=dtype)
    assert beta_input.beta == 3.0
    seen = {}
    for beta, scaled in ((1.0, -1), (3.0, 0), (4.0, 0.5), (5.0, 1)):
        beta_input.set(beta)
        assert beta_input.scaled == scaled
        seen[beta] = [context(features) for context in contexts]
        assert torch.equal(*seen[beta])
        x = torch.cat((features, torch.full((4, 1), scaled, dtype=dtype)), dim=-1)
        expected = contexts[0].head(torch.cat((contexts[0].body(x), x), dim=-1))
        torch.testing.assert_close(seen[beta][0], expected)
    assert (seen[1.0][0] - seen[5.0][0]).abs().min() > 1e-3


def test_the_input_keeps_its_precision_and_stays_out_of_checkpoints():
    beta_input = BetaInput(0.5, 2.0)
    beta_input.set(2.0)
    assert beta_input.state_dict() == {}
    assert str(beta_input) == "BetaInput(0.5 <= beta <= 2.0)"
    for beta in (0.4999, 2.0001, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match=r"beta must be from 0\.5 to 2\.0 for this flow, got"):
            beta_input.set(beta)
    assert beta_input.beta == 2.0


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.0), (3.0, 2.0)])
def test_ranges_that_cannot_be(bounds):
    with pytest.raises(InvalidInput, match="0 < low < high"):
        BetaInput(*bounds)


@pytest.mark.parametrize("hidden", [(), (0,), (4, -1)])
def test_perceptrons_that_cannot_be(hidden):
    with pytest.raises(InvalidInput, match="hidden layers of widths >= 1"):
        BoundaryContext(U1(), 3, hidden)
