"""Ops without a compiled kernel give the same below a dispatch mode, as in the first run that torch.compile makes."""

import pytest
import torch
from op_laws import Passing, assert_compiles, assert_equal, pull

from lattice_flows import SU
from lattice_flows.kernels import algebra_exp, build, link_products, spectral_power
from lattice_flows.kernels.unitary_eig import unitary_eig

TABLE = torch.tensor([[0, 1, 2], [2, 3, 0]])
OPS = {
    "spectral_power": lambda w: (spectral_power(w, 0.3),),
    "spectral_power of the adjoint": lambda w: (spectral_power(w.mH, 0.3),),
    "algebra_exp": lambda w: (algebra_exp(w - w.mH),),
    "link_products": lambda w: (link_products(w, TABLE, (True, False)),),
}


@pytest.fixture(params=[3, 9])
def w(request, generator, monkeypatch):
    """Matrices of a size for which there are kernels, but no compiler, and of one for which there are none."""
    monkeypatch.setattr(build, "native", lambda *_: None)
    return SU(request.param).haar(4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_ops(name, w, generator):
    (out,) = OPS[name](w)
    grads = (torch.randn(out.shape, generator=generator, dtype=out.dtype),)
    expected = pull(OPS[name], (w,), grads)
    with Passing(), Passing():
        assert_equal(pull(OPS[name], (w,), grads), expected)
    assert_compiles(OPS[name], (w,), grads)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_unitary_eig(w):
    expected = unitary_eig(w)
    with Passing():
        assert_equal(unitary_eig(w), expected)
    torch._dynamo.reset()
    assert_equal(torch.compile(unitary_eig, fullgraph=True, backend="aot_eager")(w), expected)
