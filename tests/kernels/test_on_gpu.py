"""Ops, flows and samplers on a GPU against the same on the CPU."""

import pytest
import torch
from op_cases import DERIVABLE, UNDERIVABLE
from op_laws import by_dtype, pull

from lattice_flows import SU, U1, GaugeField, actions, flows, sampling

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-3}
SIZES = (2, 3, 4, 8, 9)


def near(on_gpu, on_cpu, dtype):
    """Relative to the largest element, or to 1."""
    for some, other in zip(on_gpu, on_cpu, strict=True):
        assert some.device.type == "cuda"
        assert some.dtype == other.dtype
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(some.cpu(), other, rtol=0, atol=TOLERANCES[dtype] * scale)


def matrices(n, dtype, generator):
    return SU(n).haar(4, generator=generator, dtype=torch.float64).to(dtype.to_complex())


@by_dtype
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", DERIVABLE)
def test_values_and_gradients(name, n, dtype, generator):
    w = matrices(n, dtype, generator)
    out = DERIVABLE[name](w)
    grads = tuple(torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in out)
    near(pull(DERIVABLE[name], (w.cuda(),), tuple(g.cuda() for g in grads)), pull(DERIVABLE[name], (w,), grads), dtype)


@by_dtype
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", [name for name in UNDERIVABLE if name != "link_sweeps"])  # its order is another
def test_values(name, n, dtype, generator):
    w = matrices(n, dtype, generator)
    on_gpu, on_cpu = (UNDERIVABLE[name](x) for x in (w.cuda(), w))
    near(*(out if isinstance(out, tuple) else (out,) for out in (on_gpu, on_cpu)), dtype)


@by_dtype
@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
def test_a_flow(group, dtype, generator):
    """A batch goes through the flow, and log q has the same gradients."""
    flow = flows.stripes(group, (4, 4), layers=4, seed=0).to(dtype)
    for parameter in flow.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    x = flow.space.prior(8, generator, dtype=dtype)

    def run(device):
        flow.to(device).zero_grad()
        y, logdet = flow.forward(x.to(device))
        logdet.sum().backward()
        return [y.detach(), logdet.detach(), *(p.grad.clone() for p in flow.parameters())]

    expected = run("cpu")
    near(run("cuda"), expected, dtype)


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3), SU(4)], ids=str)
@pytest.mark.parametrize(
    "sampler", [sampling.HeatBath, sampling.OverRelaxation, sampling.HMC], ids=lambda s: s.__name__
)
def test_chains_stay_where_the_action_says(sampler, group):
    """Links stay in the group, and the action that a step returns is that of its links."""
    action = actions.Wilson(GaugeField(group, (4, 4)), beta=2.0)
    streams = sampling.Streams(seed=1, chains=3, device="cuda")
    update = sampler(action)
    state = update.init(sampling.start(action.space, streams, dtype=torch.float64))
    for _ in range(3):
        state, _ = update.step(state, streams)
    action.space.check(state.x)
    near([state.action], [action(state.x.cpu())], torch.float64)
