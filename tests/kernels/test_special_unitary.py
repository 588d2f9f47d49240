"""Elements of SU(N) from any matrices: against the reference, orthogonality, and what a matrix depends on."""

import pytest
import torch
from op_laws import poisoned  # noqa: F401

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import special_unitary
from lattice_flows.kernels.special_unitary import reference

by_dtype = pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")


def given(n, dtype, generator):
    return torch.randn(37, n, n, generator=generator, dtype=torch.complex128).to(dtype)


@by_dtype
@pytest.mark.parametrize("n", [2, 3, 4, 8, 9])
def test_agrees_with_the_reference(n, dtype, generator):
    m = given(n, dtype, generator)
    q, eps = special_unitary(m), torch.finfo(dtype).eps
    assert SU(n).defect(q).max() < 5 * n * eps
    exact = reference.special_unitary(m.to(torch.complex128))
    condition = torch.linalg.cond(m.to(torch.complex128))[:, None, None]
    assert ((q - exact).abs() < 5 * n * eps * condition).all()


@by_dtype
@pytest.mark.parametrize("n", [3, 4])
def test_of_nearly_dependent_columns_no_digit_is_lost(n, dtype, generator):
    m, eps = given(n, dtype, generator), torch.finfo(dtype).eps
    m[..., 1] = m[..., 0] + 30 * eps * m[..., 1]
    q = special_unitary(m)
    assert SU(n).defect(q).max() < 10 * n * eps
    triangle = q.mH @ m
    assert triangle.tril(-1).abs().max() < 20 * n * eps
    assert (triangle.diagonal(dim1=-2, dim2=-1)[:, : n - 1].real > 0).all()


def test_a_matrix_depends_on_itself_alone(generator):
    m = given(3, torch.complex64, generator)
    spoilt = m.clone()
    spoilt[::2] = torch.nan
    assert torch.equal(special_unitary(m)[1::2], special_unitary(spoilt)[1::2])
    assert torch.equal(special_unitary(m)[5:6], special_unitary(m[5:6]))
    assert special_unitary(spoilt)[::2].isnan().all()
    assert torch.equal(special_unitary(m.mT.contiguous().mT), special_unitary(m))
    assert special_unitary(m[:0]).shape == (0, 3, 3)


def test_bad_input(generator):
    m = given(3, torch.complex64, generator)
    with pytest.raises(InvalidInput, match="special_unitary needs"):
        special_unitary(m.real)
    with pytest.raises(NotImplementedError, match="no derivative"):
        special_unitary(m.requires_grad_()).real.sum().backward()
