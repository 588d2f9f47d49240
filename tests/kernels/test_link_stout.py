"""Stout steps of links: against the reference and closed forms, for any walks, and as torch sees them."""

import math
import re

import pytest
import torch
from op_laws import Passing, poisoned  # noqa: F401

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_stout import _op, link_stout, reference

by_n = pytest.mark.parametrize("n", [2, 3])
by_dtype = pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")
TOLERANCE = {torch.complex128: 1e-13, torch.complex64: 1e-5}


def case(n, generator, batch=(3,), ends=11, walks=4, steps=3, size=0.8, dtype=torch.complex128):
    """Links, and walks along them with weights of both signs."""
    links = SU(n).haar(*batch, 14, generator=generator, dtype=torch.float64).to(dtype)
    weights = torch.randn(walks, generator=generator, dtype=torch.float64)
    forward = (torch.rand(walks, steps, generator=generator) < 0.5).tolist()
    tables = torch.randint(14, (walks, steps, ends), generator=generator)
    return links, tables, forward, torch.arange(ends) % 14, weights * (size / weights.abs().sum())


def exact(links, tables, forward, active, weights):
    """The reference in double precision."""
    flat = links.reshape(-1, *links.shape[-3:]).to(torch.complex128)
    moved, logdet = reference.link_stout(flat, tables, [step for walk in forward for step in walk], active, weights)
    batch = links.shape[:-3]
    return moved.reshape(*batch, *moved.shape[1:]), logdet.reshape(*batch, *logdet.shape[1:])


def assert_near(found, expected, dtype, factor=1):
    assert (found[0].dtype, found[1].dtype) == (dtype, dtype.to_real())
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other.to(own.dtype), rtol=0, atol=factor * TOLERANCE[dtype])


@by_n
@by_dtype
@pytest.mark.parametrize(("walks", "steps"), [(1, 1), (6, 3), (2, 5)])
def test_values(n, dtype, walks, steps, generator):
    for size in (0.0, 0.01, 0.5, 0.99):
        inputs = case(n, generator, walks=walks, steps=steps, size=size, dtype=dtype)
        expected = exact(*inputs)
        assert_near(link_stout(*inputs), expected, dtype)
        assert expected[1].abs().max() >= size / 10


@by_n
@by_dtype
@pytest.mark.parametrize("weight", [0.99, -0.99])
def test_where_eigenvalues_meet(n, dtype, weight, generator):
    """U M = weight V for V = 1, near 1, or with two equal eigenvalues: for V = 1, (N^2 - 1) log(1 - weight)."""
    near = SU(n).exp(1e-4 * SU(n).random_algebra(1, generator=generator, dtype=torch.float64))[0]
    two = torch.diag(torch.tensor([1j, 1j, -1] if n == 3 else [1j, -1j], dtype=torch.complex128))
    v = torch.stack((torch.eye(n, dtype=torch.complex128), near, two, near @ two @ near.mH)).to(dtype)
    links = torch.cat((v, v[:1]))
    inputs = links, torch.full((1, 1, 4), 4), ((True,),), torch.arange(4), torch.tensor([weight], dtype=torch.float64)
    found = link_stout(*inputs)
    assert_near(found, exact(*inputs), dtype, factor=20)  # A is nearly singular
    assert found[1][0].item() == pytest.approx((n * n - 1) * math.log(1 - weight), rel=TOLERANCE[dtype])


@by_n
@pytest.mark.parametrize(("batch", "ends"), [((), 0), ((0,), 5), ((), 1), ((7,), 3), ((2, 3), 8), ((2,), 17)])
def test_shapes(n, batch, ends, generator):
    """Blocks of lanes that are not full, and those that reach over several batch entries."""
    inputs = case(n, generator, batch, ends)
    moved, logdet = link_stout(*inputs)
    assert (moved.shape, logdet.shape) == ((*batch, ends, n, n), (*batch, ends))
    assert_near((moved, logdet), exact(*inputs), torch.complex128)


def test_larger_groups_run_the_reference(generator):
    inputs = case(4, generator, ends=3)
    assert_near(link_stout(*inputs), exact(*inputs), torch.complex128)


@by_n
def test_views_threads_and_neighbours(n, generator):
    """Strided and lazily conjugated links are what their copies are; no lane and no thread knows of another."""
    links, *others = case(n, generator, (5,))
    expected = link_stout(links, *others)
    for view in (links.conj_physical().conj(), links.repeat_interleave(2, 0)[::2], links.mT.contiguous().mT):
        assert all(map(torch.equal, link_stout(view, *others), expected))
    torch.set_num_threads(2)
    assert all(map(torch.equal, link_stout(links, *others), expected))
    for k, one in enumerate(links):
        assert all(
            torch.equal(own, of_many[k]) for own, of_many in zip(link_stout(one, *others), expected, strict=True)
        )


@by_n
@pytest.mark.filterwarnings("ignore:.*torch.jit.script", "ignore:.*should not be instantiated")
def test_as_torch_sees_it(n, generator, monkeypatch):
    """As an operator, compiled, below a dispatch mode, without a compiler, and without derivatives."""
    links, *others = case(n, generator, ends=3)
    flat = [step for walk in others[1] for step in walk]
    torch.library.opcheck(_op, (links.mT, others[0], flat, *others[2:]))
    expected = link_stout(links, *others)
    torch._dynamo.reset()
    compiled = torch.compile(link_stout, fullgraph=True, backend="aot_eager")(links, *others)
    assert all(map(torch.equal, compiled, expected))
    with pytest.raises(NotImplementedError, match="no derivative"):
        link_stout(links.clone().requires_grad_(), *others)[1].sum().backward()
    monkeypatch.setattr(build, "native", lambda *_: None)
    with Passing():
        assert_near(link_stout(links, *others), expected, torch.complex128)


@by_n
@pytest.mark.parametrize("index", [-1, 14, 1 << 40, -(1 << 62)])
def test_indices_that_are_not_of_links(n, index, generator):
    """Raise before anything is read through them."""
    links, tables, forward, active, weights = case(n, generator)
    message = re.escape("must hold indices 0 ... 13 of 14 links") + f".*{index}"
    bad = active.clone()
    bad[10] = index
    with pytest.raises(InvalidInput, match=message):
        link_stout(links, tables, forward, bad, weights)
    tables[2, 1, 7] = index
    with pytest.raises(InvalidInput, match=message):
        link_stout(links, tables, forward, active, weights)


def test_wrong_input(generator):
    links, tables, forward, active, weights = case(3, generator)
    for inputs, message in (
        ((links.real, tables, forward, active, weights), "links must be complex"),
        ((links, tables.int(), forward, active, weights), "must be int64"),
        ((links, tables, forward[1:], active, weights), "one orientation a step"),
        ((links, tables, forward, active[1:], weights), r"active links must be int64 \(11,\)"),
        ((links, tables, forward, active, weights[1:]), r"weights must be float64 \(4,\), got torch.float64 \(3,\)"),
        ((links, tables, forward, active, weights.float()), r"weights must be float64 \(4,\), got torch.float32"),
    ):
        with pytest.raises(InvalidInput, match=message) as error:
            link_stout(*inputs)
        assert "\n" not in str(error.value)
