"""Derivatives of forces and divergences by the kernel are those that autograd finds in the reference."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.operators import merged, production
from lattice_flows.operators.adjoint import field_slopes
from lattice_flows.operators.production import derivatives

CASES = [
    (GaugeField(U1(), (3, 4)), merged, torch.float64, 1e-7),
    (GaugeField(SU(2), (3, 3, 4)), merged, torch.float64, 1e-7),
    (GaugeField(SU(3), (4, 4, 4)), production, torch.float64, 1e-7),
    (GaugeField(SU(2), (8, 8)), production, torch.float32, 1e-4),
]


@pytest.mark.parametrize(("space", "operators", "dtype", "within"), CASES, ids=[str(case[0]) for case in CASES])
def test_slopes_are_those_of_autograd(space, operators, dtype, within, generator):
    x, tangent = (space.prior(2, generator, dtype=dtype), torch.stack([space.momenta(generator, dtype=dtype)] * 2))
    tangent[1] *= 1e-6  # a small tangent loses no digits
    weight = torch.tensor([0.7, 0.0], dtype=torch.float64)
    operators = operators(space.group, space.dim)
    c = torch.randn(len(operators), generator=generator, dtype=torch.float64).requires_grad_()
    found = field_slopes(space, operators, c.detach(), x, tangent, weight)
    begin = x.clone().requires_grad_()
    laplacians, slopes = derivatives(operators, begin, tangent)
    total = slopes + weight.unsqueeze(-1) * laplacians
    (of_links,) = torch.autograd.grad((total @ c).sum(), begin)
    own, expected = space.gradient(x, found.links), space.gradient(x, of_links)
    assert own.dtype == x.dtype
    for one, other in ((own, expected), (found.coefficients, total.detach())):
        for k in range(2):
            torch.testing.assert_close(one[k], other[k], rtol=0, atol=within * float(other[k].abs().max()))
