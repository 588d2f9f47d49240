"""Products of links along walks: against one product after the other, for any walk, and as torch sees them."""

import functools
import re

import pytest
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, link_products
from lattice_flows.kernels.link_products import _backward, _forward
from lattice_flows.lattice.paths import lay, path_product, rectangle

NS = [2, 3, 5, 8, 9]
DTYPES = [torch.complex128, torch.complex64]
KINDS = ["haar", "near identity", "not unitary"]

by_n = pytest.mark.parametrize("n", NS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
some_n = pytest.mark.parametrize("n", [3, 9])  # compiled, and the reference


@pytest.fixture
def poisoned():
    """torch.empty gives NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def field(n, generator, batch=(3,), n_links=14, kind="haar", dtype=torch.complex128):
    group = SU(n)
    links = group.haar(*batch, n_links, generator=generator, dtype=torch.float64)
    if kind == "near identity":
        links = group.exp(1e-4 * group.random_algebra(*batch, n_links, generator=generator, dtype=torch.float64))
    elif kind == "not unitary":
        links = torch.randn(links.shape, generator=generator, dtype=links.dtype) / n**0.5
    return links.to(dtype)


def walks(steps, n, generator, n_links=14):
    """Random ones: a link may occur again, in a walk, among the walks at one step, and the other way round."""
    forward = tuple((torch.rand(steps, generator=generator) < 0.5).tolist())
    return torch.randint(n_links, (steps, n), generator=generator), forward


def noise(like, generator):
    return torch.randn(like.shape, generator=generator, dtype=torch.complex128).to(like.dtype)


def pull(links, table, forward, grad):
    """Value and gradient."""
    links = links.detach().requires_grad_()
    products = link_products(links, table, forward)
    return products.detach(), torch.autograd.grad(products, links, grad)[0]


def composed(links, table, forward, grad):
    """The same by autograd, from products of single links in double precision."""
    links = links.detach().to(torch.complex128).requires_grad_()
    rows = [
        links[..., row, :, :] if ahead else links[..., row, :, :].mH for row, ahead in zip(table, forward, strict=True)
    ]
    products = functools.reduce(torch.matmul, rows)
    return products.detach(), torch.autograd.grad(products, links, grad.to(torch.complex128))[0]


def assert_same(results, expected, dtype, steps):
    """To the rounding of `steps` products, relative to the largest element; a gradient adds up some more."""
    for left, right in zip(results, expected, strict=True):
        error = (left.to(torch.complex128) - right).abs().max() / right.abs().max()
        assert error < (4 + steps) * torch.finfo(dtype).eps


@by_n
@by_dtype
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_values_and_gradients(n, dtype, kind, steps, generator, poisoned):
    links = field(n, generator, kind=kind, dtype=dtype)
    table, forward = walks(steps, 11, generator)
    grad = noise(links[:, :1].expand(-1, 11, -1, -1), generator)
    assert_same(pull(links, table, forward, grad), composed(links, table, forward, grad), dtype, steps)


@some_n
@by_dtype
def test_long_walks(n, dtype, generator, poisoned):
    """Such as a Polyakov loop on a long lattice; its products stay unitary to as many rounding errors."""
    links = field(n, generator, dtype=dtype)
    table, forward = walks(97, 5, generator)
    grad = noise(links[:, :5], generator)
    results = pull(links, table, forward, grad)
    assert_same(results, composed(links, table, forward, grad), dtype, 97)
    assert SU(n).defect(results[0]).max() < 97 * n * torch.finfo(dtype).eps


@some_n
def test_each_link_of_a_lattice(n, generator, poisoned):
    """Plaquettes, staples, rectangles and Polyakov loops of a lattice, from the laws of the walks laid on it."""
    space = GaugeField(SU(n), (4, 2, 6))
    links = field(n, generator, n_links=3 * 48)
    for path, start in ((rectangle(0, 1, 2, 1), ()), (rectangle(2, 2, 1, 1), ()), (((1, 2),), ()),
                        (((2, -1), (0, -1), (2, 1)), ((0, 1),))):  # fmt: skip
        walk = lay(path, space.lattice, start)
        grad = noise(links[:, :48], generator)
        expected = composed(links, *walk, grad)
        assert_same(pull(links, *walk, grad), expected, torch.complex128, len(walk.forward))
        followed = path_product(links.unflatten(1, space.axes), path, space, start=start)
        assert (followed.flatten(1, 3) - expected[0]).abs().max() < 1e-13


@some_n
@pytest.mark.parametrize(("batch", "starts"), [((), 0), ((0,), 5), ((2, 0), 5), ((), 1), ((1,), 1), ((7,), 3),
                                               ((2, 3), 8), ((2,), 17), ((1,), 33)])  # fmt: skip
def test_shapes(n, batch, starts, generator, poisoned):
    """Blocks of lanes that are not full, and those that reach over several batch entries."""
    links = field(n, generator, batch)
    table, forward = walks(3, starts, generator)
    grad = noise(links.new_empty(*batch, starts, n, n), generator)
    results, expected = pull(links, table, forward, grad), composed(links, table, forward, grad)
    assert results[0].shape == (*batch, starts, n, n)
    assert results[1].shape == links.shape
    for left, right in zip(results, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@some_n
@pytest.mark.parametrize("view", [lambda x: x.mH, lambda x: x.mT, lambda x: x[:, ::2], lambda x: x[::2].conj(),
                                  lambda x: x.transpose(0, 1)])  # fmt: skip
def test_views(n, view, generator, poisoned):
    """Strided, transposed and lazily conjugated links, gradients and tables are what their copies are."""
    links = view(field(n, generator, (12,), 12))
    table, forward = (
        torch.randint(links.shape[1], (links.shape[1], 4), generator=generator).T,
        (True, False, True, False),
    )
    grad = view(noise(field(n, generator, (12,), 12), generator))
    copies = [x.clone(memory_format=torch.contiguous_format) for x in (links, table, grad)]
    expected = pull(copies[0], copies[1], forward, copies[2])
    for left, right in zip(pull(links, table, forward, grad), expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_gradcheck(n, generator):
    links = field(n, generator, (2,), 4, "not unitary").requires_grad_()
    table, forward = walks(3, 2, generator, 4)
    # of n = 9 by a random combination, as the whole Jacobian is large
    fast = n == 9
    assert torch.autograd.gradcheck(lambda links: link_products(links, table, forward), (links,), fast_mode=fast)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_derivatives_that_are_not_there_raise(generator):
    links = field(3, generator).requires_grad_()
    table, forward = walks(2, 4, generator)
    (gradient,) = torch.autograd.grad(link_products(links, table, forward).abs().sum(), links, create_graph=True)
    with pytest.raises(RuntimeError, match="has no derivative"):
        gradient.abs().sum().backward()
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(lambda links: link_products(links, table, forward), (links.detach(),), (links.detach(),))


@by_n
def test_without_a_compiler(n, generator, monkeypatch):
    links = field(n, generator)
    table, forward = walks(4, 11, generator)
    grad = noise(links[:, :11], generator)
    compiled = pull(links, table, forward, grad)
    monkeypatch.setattr(build, "native", lambda *_: None)
    for left, right in zip(compiled, pull(links, table, forward, grad), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@some_n
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_under_compilation(n, generator):
    links, (table, forward) = field(n, generator), walks(3, 5, generator)
    grad = noise(links[:, :5], generator)
    torch._dynamo.reset()
    compiled = torch.compile(link_products, fullgraph=True, backend="aot_eager")
    moved = links.clone().requires_grad_()
    products = compiled(moved, table, forward)
    for left, right in zip(
        (products, *torch.autograd.grad(products, moved, grad)), pull(links, table, forward, grad), strict=True
    ):
        assert torch.equal(left, right)


@some_n
def test_as_an_operator(n, generator):
    links, (table, forward) = field(n, generator), walks(1, 4, generator)
    for view in (links, links.mT):
        torch.library.opcheck(_forward, (view, table, list(forward)))
        torch.library.opcheck(_backward, (view, table, links[:, :4].mT, list(forward)))


@some_n
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_threads_change_nothing(n, batch, generator):
    links, (table, forward) = field(n, generator, (batch,)), walks(4, 50, generator)
    grad = noise(links[:, :1].expand(-1, 50, -1, -1), generator)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(pull(links, table, forward, grad))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-14)


@some_n
@pytest.mark.parametrize("index", [-1, 14, 1 << 40])
def test_indices_that_are_not_of_links(n, index, generator):
    """Raise before anything is read, in either pass."""
    links, (table, forward) = field(n, generator), walks(3, 20, generator)
    message = re.escape("must hold indices 0 ... 13 of 14 links") + f".*{index}"
    grad = noise(links[:, :1].expand(-1, 20, -1, -1), generator)
    table[2, 7] = index
    with pytest.raises(InvalidInput, match=message):
        link_products(links, table, forward)
    with pytest.raises(InvalidInput, match=message):
        _backward(links, table, grad, forward)


LINKS, TABLE = torch.zeros(5, 3, 3, dtype=torch.complex64), torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("links", "table", "forward", "message"),
    [
        (LINKS.real, TABLE, (True, True), "links must be complex"),
        (LINKS[0], TABLE, (True, True), "links must be complex"),
        (LINKS[:, :2], TABLE, (True, True), "links must be complex"),
        (LINKS, TABLE.int(), (True, True), "must be int64"),
        (LINKS, TABLE[0], (True, True), "must be int64"),
        (LINKS, TABLE[:0], (), "steps >= 1"),
        (LINKS, TABLE, (True,), "1 orientations"),
    ],
)
def test_wrong_input(links, table, forward, message):
    with pytest.raises(InvalidInput, match=message) as error:
        link_products(links, table, forward)
    assert "\n" not in str(error.value)
