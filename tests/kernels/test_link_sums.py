"""Sums of products of links: against the products of single links, for any walks, and as torch sees them."""

import functools
import re

import pytest
import torch
from op_laws import Passing, poisoned  # noqa: F401

from lattice_flows import SU, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_sums import _forces, _sums, link_forces, link_sums
from lattice_flows.lattice.paths import lay, staple

NS = [1, 2, 3, 5, 8, 9]
by_n = pytest.mark.parametrize("n", NS)
some_n = pytest.mark.parametrize("n", [3, 9])  # compiled, and the reference
by_dtype = pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")


def field(n, generator, batch=(3,), n_links=14, dtype=torch.complex128):
    """Any matrices."""
    return torch.randn(*batch, n_links, n, n, generator=generator, dtype=torch.complex128).to(dtype) / n**0.5


def walks(count, steps, ends, generator, n_links=14):
    forward = (torch.rand(count, steps, generator=generator) < 0.5).tolist()
    return torch.randint(n_links, (count, steps, ends), generator=generator), forward


def composed(links, tables, forward):
    """From products of single links, in double precision."""
    links = links.to(torch.complex128)
    return sum(
        functools.reduce(
            torch.matmul,
            [links[..., row, :, :] if ahead else links[..., row, :, :].mH for row, ahead in zip(*walk, strict=True)],
        )
        for walk in zip(tables, forward, strict=True)
    )


def projected(m):
    """The traceless anti-Hermitian part."""
    m = (m - m.mH) / 2
    return m - m.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(m.shape[-1])


def assert_near(result, expected, dtype, operations):
    assert result.dtype == dtype
    error = (result.to(torch.complex128) - expected).abs().max() / expected.abs().max().clamp_min(1)
    assert error < operations * torch.finfo(dtype).eps


@by_n
@by_dtype
@pytest.mark.parametrize(("count", "steps"), [(1, 1), (3, 1), (1, 2), (6, 3), (4, 5)])
def test_values(n, dtype, count, steps, generator):
    links = field(n, generator, dtype=dtype)
    tables, forward = walks(count, steps, 11, generator)
    active = torch.randint(14, (11,), generator=generator)
    expected = composed(links, tables, forward)
    assert_near(link_sums(links, tables, forward), expected, dtype, 4 * count * steps)
    force = projected(links[:, active].to(torch.complex128) @ expected)
    assert_near(
        link_forces(links, tables, forward, active), force, dtype, 4 * count * (steps + 1) * expected.abs().max()
    )


@some_n
def test_staples_of_a_lattice(n, generator):
    """Those of `lattice.staple`, on both sides, in every direction of a lattice whose extents differ."""
    space = GaugeField(SU(n), (4, 2, 6))
    links = space.prior(2, generator, dtype=torch.float64)
    for mu in range(3):
        sides = [(nu, side) for nu in range(3) if nu != mu for side in (1, -1)]
        laid = [lay(((nu, side), (mu, -1), (nu, -side)), space.lattice, ((mu, 1),)) for nu, side in sides]
        sums = link_sums(links.flatten(1, 4), torch.stack([walk.links for walk in laid]), [w.forward for w in laid])
        expected = sum(staple(links, mu, nu, space, side=side) for nu, side in sides)
        torch.testing.assert_close(sums, expected.flatten(1, 3), rtol=0, atol=1e-13)


@some_n
@pytest.mark.parametrize(("batch", "ends"), [((), 0), ((0,), 5), ((2, 0), 5), ((), 1), ((1,), 1), ((7,), 3),
                                             ((2, 3), 8), ((2,), 17), ((1,), 33)])  # fmt: skip
def test_shapes(n, batch, ends, generator):
    """Blocks of lanes that are not full, and those that reach over several batch entries."""
    links = field(n, generator, batch)
    tables, forward = walks(2, 3, ends, generator)
    active = torch.randint(14, (ends,), generator=generator)
    expected = composed(links, tables, forward)
    assert expected.shape == (*batch, ends, n, n)
    torch.testing.assert_close(link_sums(links, tables, forward), expected, rtol=0, atol=1e-13)
    force = projected(links[..., active, :, :] @ expected)
    torch.testing.assert_close(link_forces(links, tables, forward, active), force, rtol=0, atol=1e-13)


@some_n
@pytest.mark.parametrize("view", [lambda x: x.mH, lambda x: x.mT, lambda x: x[:, ::2], lambda x: x[::2].conj(),
                                  lambda x: x.transpose(0, 1)])  # fmt: skip
def test_views(n, view, generator):
    """Strided, transposed and lazily conjugated links, and strided tables, are what their copies are."""
    links = view(field(n, generator, (12,), 12))
    tables, forward = torch.randint(links.shape[1], (4, 3, 2), generator=generator).mT, walks(4, 2, 3, generator)[1]
    active = torch.randint(links.shape[1], (6,), generator=generator)[::2]
    copy = links.clone(memory_format=torch.contiguous_format).resolve_conj()
    for function, more in ((link_sums, ()), (link_forces, (active,))):
        expected = function(copy, tables.contiguous(), forward, *(x.contiguous() for x in more))
        torch.testing.assert_close(function(links, tables, forward, *more), expected, rtol=0, atol=1e-13)


@by_n
def test_without_a_compiler(n, generator, monkeypatch):
    links, (tables, forward) = field(n, generator), walks(4, 3, 11, generator)
    active = torch.arange(11)
    compiled = link_sums(links, tables, forward), link_forces(links, tables, forward, active)
    monkeypatch.setattr(build, "native", lambda *_: None)
    references = link_sums(links, tables, forward), link_forces(links, tables, forward, active)
    torch.testing.assert_close(compiled, references, rtol=0, atol=1e-13)


def test_batch_entries_do_not_depend_on_each_other(generator):
    """To the last bit, wherever a field stands, and whether a block of lanes is its own or shared."""
    links, (tables, forward) = field(3, generator, (5,), dtype=torch.complex64), walks(4, 3, 11, generator)
    for function, more in ((link_sums, ()), (link_forces, (torch.arange(11),))):
        together = function(links, tables, forward, *more)
        for one, of_many in zip(links, together, strict=True):
            assert torch.equal(function(one, tables, forward, *more), of_many)


@some_n
def test_threads_change_nothing(n, generator):
    links, (tables, forward) = field(n, generator), walks(4, 3, 50, generator)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(link_sums(links, tables, forward))
    torch.testing.assert_close(*results, rtol=0, atol=1e-14)


@some_n
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_derivatives_raise(n, generator):
    """Reverse and forward: an error, never a silent zero."""
    links, (tables, forward) = field(n, generator), walks(2, 3, 4, generator)
    for function in (lambda x: link_sums(x, tables, forward), lambda x: link_forces(x, tables, forward, tables[0, 0])):
        with pytest.raises(NotImplementedError, match="no derivative"):
            function(links.clone().requires_grad_()).abs().sum().backward()
        with pytest.raises(NotImplementedError, match="no derivative"):
            torch.func.jvp(function, (links,), (links,))


@some_n
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_as_torch_sees_them(n, generator, monkeypatch):
    """As operators, below a dispatch mode, and compiled."""
    links, (tables, forward) = field(n, generator), walks(2, 3, 4, generator)
    flat, active = [step for walk in forward for step in walk], tables[0, 0]
    for view in (links, links.mT):
        torch.library.opcheck(_sums, (view, tables, flat))
        torch.library.opcheck(_forces, (view, tables, flat, active))
    expected = link_sums(links, tables, forward)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(link_sums, fullgraph=True, backend="aot_eager")(links, tables, forward), expected)
    monkeypatch.setattr(build, "native", lambda *_: None)
    expected = link_forces(links.mH, tables, forward, active)
    with Passing():
        assert torch.equal(link_forces(links.mH, tables, forward, active), expected)


@some_n
@pytest.mark.parametrize("index", [-1, 14, 1 << 40, -(1 << 62)])
def test_indices_that_are_not_of_links(n, index, generator):
    """Raise before anything is read through them."""
    links, (tables, forward) = field(n, generator), walks(3, 2, 20, generator)
    message = re.escape("must hold indices 0 ... 13 of 14 links") + f".*{index}"
    active = torch.arange(20) % 14
    bad = active.clone()
    bad[19] = index
    with pytest.raises(InvalidInput, match=message):
        link_forces(links, tables, forward, bad)
    tables[2, 1, 7] = index
    with pytest.raises(InvalidInput, match=message):
        link_sums(links, tables, forward)
    with pytest.raises(InvalidInput, match=message):
        link_forces(links, tables, forward, active)


LINKS, TABLES = torch.zeros(5, 3, 3, dtype=torch.complex64), torch.zeros(2, 3, 4, dtype=torch.int64)
FORWARD = ((True, True, False), (False, True, True))


@pytest.mark.parametrize(
    ("links", "tables", "forward", "message"),
    [
        (LINKS.real, TABLES, FORWARD, "links must be complex"),
        (LINKS[0], TABLES, FORWARD, "links must be complex"),
        (LINKS[:, :2], TABLES, FORWARD, "links must be complex"),
        (LINKS, TABLES.int(), FORWARD, "must be int64"),
        (LINKS, TABLES[0], FORWARD, "must be int64"),
        (LINKS, TABLES[:0], (), "walks and steps >= 1"),
        (LINKS, TABLES[:, :0], ((), ()), "walks and steps >= 1"),
        (LINKS, TABLES, FORWARD[:1], r"\[3\]"),
        (LINKS, TABLES, ((True,), (True,) * 5), r"\[1, 5\]"),
    ],
)
def test_wrong_input(links, tables, forward, message):
    for function, more in ((link_sums, ()), (link_forces, (torch.zeros(4, dtype=torch.int64),))):
        with pytest.raises(InvalidInput, match=message) as error:
            function(links, tables, forward, *more)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("active", [torch.zeros(4), torch.zeros(3, dtype=torch.int64), torch.zeros(1, 4).long()])
def test_wrong_active_links(active):
    with pytest.raises(InvalidInput, match=r"active links must be int64 \(4,\)"):
        link_forces(LINKS, TABLES, FORWARD, active)
