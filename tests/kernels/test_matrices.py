"""Matrices in the references."""

import pytest
import torch

from lattice_flows.kernels.matrices import gram_schmidt, orthonormal


@pytest.mark.parametrize("n", [2, 3, 8])
def test_both_ways_to_orthonormal_columns_agree(n, generator):
    m = torch.randn(200, n, n, generator=generator, dtype=torch.complex128)
    m[0, :, -1] = m[0, :, 0] + 1e-7 * m[0, :, -1]  # nearly dependent: one time would lose half of the digits
    q = gram_schmidt(m)
    eye = torch.eye(n, dtype=m.dtype)
    assert (q.mH @ q - eye).abs().max() < 1e-14
    r = q.mH @ m
    assert (r.tril(-1)).abs().max() < 1e-13
    assert (r.diagonal(dim1=-2, dim2=-1).real > 0).all()
    torch.testing.assert_close(q[1:], orthonormal(m)[1:], rtol=0, atol=1e-10)
