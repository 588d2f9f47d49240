"""References give the same below a dispatch mode, as in the first run that torch.compile makes of their ops."""

import pytest
import torch
from op_laws import Passing, assert_compiles, assert_equal, pull

from lattice_flows import SU, kernels
from lattice_flows.kernels import build
from lattice_flows.kernels.circular_spline import n_params as n_circular_params
from lattice_flows.kernels.spectral_flow import n_params

TABLE = torch.tensor([[0, 1, 2], [2, 3, 0]])
PARAMS = {n: torch.linspace(-1, 1, 4 * n_params(n, 3), dtype=torch.float64).reshape(4, -1) for n in (3, 9)}
CIRCULAR = torch.linspace(-1, 1, 4 * n_circular_params(3), dtype=torch.float64).reshape(4, -1)
WEIGHTS, KEYS = torch.ones(2, 2, dtype=torch.float64), torch.tensor([[1, 2]])
DERIVABLE = {
    "algebra_exp": lambda w: (kernels.algebra_exp(w - w.mH),),
    "circular_spline": lambda w: kernels.circular_spline(w[:, 0, 0].real, CIRCULAR, 3),
    "link_products": lambda w: (kernels.link_products(w, TABLE, (True, False)),),
    "spectral_flow": lambda w: kernels.spectral_flow(w, PARAMS[w.shape[-1]], 3),
    "spectral_flow of the adjoint": lambda w: kernels.spectral_flow(w.mH, PARAMS[w.shape[-1]], 3, inverse=True),
    "spectral_power": lambda w: (kernels.spectral_power(w, 0.3),),
    "spectral_power of the adjoint": lambda w: (kernels.spectral_power(w.mH, 0.3),),
}
UNDERIVABLE = {
    "heat_bath": lambda w: kernels.heat_bath(w, w.mH, 1.5, torch.full((4, 36, 2, 4), 0.3).double()[:, : pairs(w)]),
    "link_forces": lambda w: kernels.link_forces(w, TABLE[None], ((True, False),), TABLE[0]),
    "link_sums": lambda w: kernels.link_sums(w, TABLE[None], ((True, False),)),
    "link_sweeps": lambda w: kernels.link_sweeps(field(w), (8, 8), WEIGHTS, (0,), KEYS, KEYS[:, 0]),
    "link_trajectories": lambda w: kernels.link_trajectories(
        field(w), (8, 8), WEIGHTS, (0.1, 0.1), 0.2, KEYS, KEYS[:, 0]
    ),
    "over_relaxation": lambda w: kernels.over_relaxation(w, w.mH),
    "uniforms": lambda w: kernels.uniforms(TABLE.T, torch.arange(len(TABLE.T), device=w.device), 9, w.real.dtype),
    "unitary_eig": kernels.unitary_eig,
}


def field(w):
    return w[0].expand(1, 2, 8, 8, *w.shape[1:])


def pairs(w):
    return w.shape[-1] * (w.shape[-1] - 1) // 2


@pytest.fixture(params=[3, 9])
def w(request, generator, monkeypatch):
    """Matrices of a size for which there are kernels, but no compiler, and of one for which there are none."""
    monkeypatch.setattr(build, "native", lambda *_: None)
    return SU(request.param).haar(4, generator=generator, dtype=torch.float64)


def test_every_op_is_here():
    assert {name.split(" ")[0] for name in (*DERIVABLE, *UNDERIVABLE)} == set(kernels.__all__)


@pytest.mark.parametrize("name", DERIVABLE)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_values_and_gradients(name, w, generator):
    out = DERIVABLE[name](w)
    grads = tuple(torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in out)
    expected = pull(DERIVABLE[name], (w,), grads)
    with Passing(), Passing():
        assert_equal(pull(DERIVABLE[name], (w,), grads), expected)
    assert_compiles(DERIVABLE[name], (w,), grads)


@pytest.mark.parametrize("name", [*DERIVABLE, *UNDERIVABLE])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_values_alone(name, w):
    function = {**DERIVABLE, **UNDERIVABLE}[name]
    expected = function(w)
    with Passing():
        torch.testing.assert_close(function(w), expected, rtol=0, atol=0)
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(w), expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_pull_back_by_torch_func(w, generator):
    """The autograd of a reference runs below the transforms of torch.func too."""
    for name in ("circular_spline", "spectral_flow"):
        out = DERIVABLE[name](w)
        grads = tuple(torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in out)
        *_, expected = pull(DERIVABLE[name], (w,), grads)
        (found,) = torch.func.vjp(DERIVABLE[name], w)[1](grads)
        assert torch.equal(found, expected)
