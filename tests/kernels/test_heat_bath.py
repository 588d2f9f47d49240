"""Heat bath and over-relaxation: against the reference, the density they leave invariant, and what they depend on."""

import pytest
import torch
from op_laws import Passing, poisoned  # noqa: F401
from scipy.special import ive

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.heat_bath import _heat_bath, _over_relaxation, heat_bath, over_relaxation
from lattice_flows.planar.exact import plaquette

NS = [2, 3, 4, 8, 9]
by_n = pytest.mark.parametrize("n", NS)
some_n = pytest.mark.parametrize("n", [3, 9])  # compiled, and the reference
by_dtype = pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")


def inputs(n, size, generator, attempts=3, dtype=torch.complex128):
    """Haar elements, staple sums from none at all to large ones, and numbers in [0, 1)."""
    group = SU(n)
    scale = torch.logspace(-6, 1, size, dtype=torch.float64)
    scale[:2] = 0
    elements = group.haar(size, generator=generator, dtype=torch.float64)
    staples = group.haar(6, size, generator=generator, dtype=torch.float64).sum(0) * scale[:, None, None]
    return elements.to(dtype), staples.to(dtype), numbers(n, (size,), attempts, generator, dtype)


def numbers(n, shape, attempts, generator, dtype=torch.complex128):
    return torch.rand(*shape, n * (n - 1) // 2, attempts, 4, generator=generator, dtype=dtype.to_real())


def alignment(elements, staples):
    """Re tr(U S)."""
    return (elements @ staples).diagonal(dim1=-2, dim2=-1).real.sum(-1).double()


def pull(samples, expected):
    """The deviation of the mean of independent samples, in units of its measured error."""
    return float((samples.mean() - expected) / (samples.std() / len(samples) ** 0.5))


@by_n
@by_dtype
def test_agrees_with_the_reference(n, dtype, generator, monkeypatch):
    """In double precision, whatever comes in: a rounding may decide about a proposal, and is multiplied in passing."""
    elements, staples, uniforms = inputs(n, 200, generator, dtype=dtype)
    found = heat_bath(elements, staples, 1.5, uniforms), over_relaxation(elements, staples)
    monkeypatch.setattr(build, "native", lambda *_: None)
    wide = [x.to(torch.complex128 if x.is_complex() else torch.float64) for x in (elements, staples, uniforms)]
    for left, right in zip(found, (heat_bath(*wide[:2], 1.5, wide[2]), over_relaxation(*wide[:2])), strict=True):
        error = (left - right).abs().amax((1, 2)).double()
        assert left.dtype == dtype
        assert error.quantile(0.97) < 100 * n * torch.finfo(dtype).eps
        assert error.median() < 10 * n * torch.finfo(dtype).eps


@by_n
@by_dtype
def test_stays_in_the_group(n, dtype, generator):
    """Over hundreds of passes, and from elements that are out of it by as much as a long run would bring."""
    group = SU(n)
    elements, staples, _ = inputs(n, 20, generator, dtype=dtype)
    elements = elements * (1 + 1e-4j)
    for _ in range(300 if n < 9 else 20):
        elements = heat_bath(elements, staples, 0.7, numbers(n, (20,), 2, generator, dtype))
        elements = over_relaxation(elements, staples)
    assert group.defect(elements).max() < 3 * n * torch.finfo(dtype).eps


@by_n
@by_dtype
def test_over_relaxation_keeps_the_action_and_moves(n, dtype, generator):
    elements, staples, _ = inputs(n, 200, generator, dtype=dtype)
    new = over_relaxation(elements, staples)
    size = staples.abs().amax((1, 2)) + torch.finfo(dtype).tiny
    change = (alignment(new, staples) - alignment(elements, staples)).abs() / size
    assert change.max() < 30 * n * torch.finfo(dtype).eps
    assert (new - elements).abs().amax((1, 2))[2:].min() > 1e-3


def test_over_relaxation_of_su2_is_its_own_inverse(generator):
    elements, staples, _ = inputs(2, 100, generator)
    again = over_relaxation(over_relaxation(elements, staples), staples)
    torch.testing.assert_close(again, elements, rtol=0, atol=1e-13)


@by_dtype
@pytest.mark.parametrize("k", [0.0, 1e-3, 0.5, 1.29, 1.31, 3.0, 20.0, 300.0])
def test_density_of_su2(k, dtype, generator):
    """b = U S / |S| has density exp(k b_0): moments of b_0 from Bessel functions, all directions of the rest alike."""
    size = 20_000
    direction = SU(2).haar(generator=generator, dtype=torch.float64)
    staples = (0.7 * direction).to(dtype).expand(size, 2, 2)
    start = SU(2).haar(generator=generator, dtype=torch.float64).to(dtype).expand(size, 2, 2)
    new = heat_bath(start, staples, k / 1.4, numbers(2, (size,), 25, generator, dtype))
    b = new.to(torch.complex128) @ direction
    mean = ive(2, k) / ive(1, k) if k else 0.0
    square = 1 - (3 * mean / k if k else 0.75)
    assert abs(pull(b[:, 0, 0].real, mean)) < 4
    assert abs(pull(b[:, 0, 0].real ** 2, square)) < 4
    for part in (b[:, 0, 0].imag, b[:, 0, 1].real, b[:, 0, 1].imag):
        assert abs(pull(part, 0.0)) < 4
        assert abs(pull(part**2, (1 - square) / 3)) < 4
        assert abs(pull(part * b[:, 0, 0].real, 0.0)) < 4


@pytest.mark.parametrize("k", [0.3, 1.29, 1.31, 3.0, 20.0])
def test_one_attempt(k, generator):
    """It is accepted as often as the formulas say, and where it is not the element stays to the last bit; what was
    distributed right stays so, the chance of a rejection being that of the staple alone."""
    size = 40_000
    group = SU(2)
    direction = group.haar(generator=generator, dtype=torch.float64)
    staples = direction.expand(size, 2, 2)
    start = group.haar(generator=generator, dtype=torch.float64).expand(size, 2, 2)
    once = heat_bath(start, staples, k / 2, numbers(2, (size,), 1, generator))
    moved = (once != start).flatten(1).any(1)
    if k < 1.3:
        accepted = 4 * ive(1, k) / k / (1 + torch.tensor(-2 * k).exp())
    else:
        accepted = (2 * k) ** 1.5 * torch.pi**0.5 / 2 * ive(1, k) / k
    assert abs(pull(moved.double(), float(accepted))) < 4
    mean = ive(2, k) / ive(1, k)
    assert abs(pull(alignment(once, staples)[moved] / 2, mean)) < 4
    right = heat_bath(start, staples, k / 2, numbers(2, (size,), 25, generator))
    later = heat_bath(right, staples, k / 2, numbers(2, (size,), 1, generator))
    assert 0 < (later == right).flatten(1).all(1).sum() < size or k == 20.0
    assert abs(pull(alignment(later, staples) / 2, mean)) < 4


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("beta", [0.5, 6.0])
def test_density_of_one_plaquette(n, beta, generator):
    """exp(beta / N Re tr(U S)) for S in the group: <Re tr(U S)> / N is the plaquette of two dimensions."""
    group, size = SU(n), 10_000
    staples = group.haar(generator=generator, dtype=torch.float64).expand(size, n, n)
    elements = group.haar(size, generator=generator, dtype=torch.float64)
    for attempts in (1, 2, 1, 2, 1, 2, 1, 2, 4, 4, 4):
        elements = heat_bath(elements, staples, beta / n, numbers(n, (size,), attempts, generator))
        elements = over_relaxation(elements, staples)
    assert abs(pull(alignment(elements, staples) / n, plaquette(group, beta))) < 4


@pytest.mark.parametrize("n", [2, 3])
def test_density_of_any_staples(n, generator):
    """For a sum of staples that is no multiple of a unitary matrix: against Haar elements, reweighted."""
    group, size, strength = SU(n), 20_000, 0.4
    staples = group.haar(3, generator=generator, dtype=torch.float64).sum(0)
    probe = group.haar(generator=generator, dtype=torch.float64)
    haar = group.haar(200_000, generator=generator, dtype=torch.float64)
    weights = (strength * alignment(haar, staples)).exp()
    elements = group.haar(size, generator=generator, dtype=torch.float64)
    for _ in range(12):
        elements = heat_bath(elements, staples.expand_as(elements), strength, numbers(n, (size,), 2, generator))
    for s in (staples, probe, 1j * probe)[:n]:
        wanted = alignment(haar, s)
        mean = (weights * wanted).sum() / weights.sum()
        error = (weights * (wanted - mean)).square().sum().sqrt() / weights.sum()
        own = alignment(elements, s)
        assert abs(own.mean() - mean) < 4 * (error**2 + own.var() / size).sqrt()


@pytest.mark.parametrize("n", [2, 3, 5])
@by_dtype
def test_neighbours_change_nothing(n, dtype, generator):
    """To the last bit, wherever a matrix stands in whatever batch, beside those for which k is large or small."""
    elements, staples, uniforms = inputs(n, 70, generator, dtype=dtype)
    order = torch.randperm(70, generator=generator)
    elements, staples, uniforms = elements[order], staples[order], uniforms[order]
    for function, more in ((lambda u, s, r: heat_bath(u, s, 1.5, r), (uniforms,)), (over_relaxation, ())):
        together = function(elements, staples, *more)
        for part in (slice(0, 1), slice(3, 10), slice(5, 42), slice(69, 70), slice(None, None, 3)):
            assert torch.equal(function(*(x[part] for x in (elements, staples, *more))), together[part])
        torch.set_num_threads(2)
        assert torch.equal(function(elements, staples, *more), together)
        torch.set_num_threads(1)


@some_n
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (2, 3, 7)])
def test_shapes_and_views(n, shape, generator):
    elements = SU(n).haar(*shape, generator=generator, dtype=torch.float64)
    staples = torch.randn(*shape, n, n, generator=generator, dtype=torch.complex128)
    uniforms = numbers(n, shape, 2, generator)
    new = heat_bath(elements, staples, 1.0, uniforms)
    assert new.shape == over_relaxation(elements, staples).shape == elements.shape
    viewed = heat_bath(elements.mH.contiguous().mH, staples.mT.contiguous().mT, 1.0, uniforms.mT.contiguous().mT)
    torch.testing.assert_close(viewed, new, rtol=0, atol=1e-12)
    kept = heat_bath(elements, staples, 1.0, uniforms[..., :0, :])
    assert torch.equal(kept, elements)


def test_what_is_not_a_number_is_not_hidden(generator):
    elements, staples, uniforms = inputs(3, 40, generator)
    staples[7] = torch.nan
    for new in (heat_bath(elements, staples, 1.0, uniforms), over_relaxation(elements, staples)):
        assert new[7].isnan().all()
        assert torch.isfinite(torch.view_as_real(torch.cat((new[:7], new[8:])))).all()


@some_n
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_as_torch_sees_them(n, generator, monkeypatch):
    """As operators, without a derivative, compiled, and below a dispatch mode."""
    elements, staples, uniforms = inputs(n, 5, generator)
    torch.library.opcheck(_heat_bath, (elements.mT, staples, 1.0, uniforms))
    torch.library.opcheck(_over_relaxation, (elements, staples.mT))
    torch._dynamo.reset()
    compiled = torch.compile(heat_bath, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(elements, staples, 1.0, uniforms), heat_bath(elements, staples, 1.0, uniforms))
    for function in (lambda s: heat_bath(elements, s, 1.0, uniforms), lambda s: over_relaxation(elements, s)):
        with pytest.raises(NotImplementedError, match="no derivative"):
            function(staples.clone().requires_grad_()).abs().sum().backward()
        with pytest.raises(NotImplementedError, match="no derivative"):
            torch.func.jvp(function, (staples,), (staples,))
    monkeypatch.setattr(build, "native", lambda *_: None)
    expected = heat_bath(elements, staples, 1.0, uniforms), over_relaxation(elements, staples)
    with Passing():
        found = heat_bath(elements, staples, 1.0, uniforms), over_relaxation(elements, staples)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


U, R = torch.eye(3, dtype=torch.complex64).expand(4, 3, 3), torch.zeros(4, 3, 2, 4)


@pytest.mark.parametrize(
    ("elements", "staples", "strength", "uniforms", "message"),
    [
        (U.real, U.real, 1.0, R, "elements must be complex"),
        (U[:, :2], U[:, :2], 1.0, R, "elements must be complex"),
        (U[:, :1, :1], U[:, :1, :1], 1.0, R, "N >= 2"),
        (U, U[:3], 1.0, R, r"staples must be torch.complex64 \(4, 3, 3\)"),
        (U, U.to(torch.complex128), 1.0, R, "staples must be torch.complex64"),
        (U, U, float("nan"), R, "strength must be a finite number >= 0, got nan"),
        (U, U, -1.0, R, "strength must be a finite number >= 0, got -1.0"),
        (U, U, 1.0, R.double(), r"uniforms must be torch.float32 \(..., 3, attempts, 4\)"),
        (U, U, 1.0, R[:, :2], "uniforms must be"),
        (U, U, 1.0, R[..., :3], "uniforms must be"),
        (U, U, 1.0, R[:3], "uniforms must be"),
    ],
)
def test_wrong_input(elements, staples, strength, uniforms, message):
    with pytest.raises(InvalidInput, match=message) as error:
        heat_bath(elements, staples, strength, uniforms)
    assert "\n" not in str(error.value)
    if not message.startswith(("strength", "uniforms")):
        with pytest.raises(InvalidInput, match=message):
            over_relaxation(elements, staples)
