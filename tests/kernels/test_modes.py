"""References give the same below a dispatch mode, as in the first run that torch.compile makes of their ops."""

import pytest
import torch
from op_cases import DERIVABLE, ON_CPUS, UNDERIVABLE
from op_laws import Passing, assert_compiles, assert_equal, pull

from lattice_flows import SU, kernels
from lattice_flows.kernels import build


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


@pytest.mark.parametrize("name", [*DERIVABLE, *UNDERIVABLE, *ON_CPUS])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_values_alone(name, w):
    function = {**DERIVABLE, **UNDERIVABLE, **ON_CPUS}[name]
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
