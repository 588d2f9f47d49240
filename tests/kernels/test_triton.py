"""The Triton kernels: against the references, on a GPU or else in Triton's interpreter, and compiled without a GPU."""

import itertools
import math
import os
import subprocess
import sys

import accuracy
import pytest
import samples
import torch

from lattice_flows import SU

pytest.importorskip("triton", reason="needs triton")

from triton import knobs

from lattice_flows.kernels.algebra_exp import reference as exp_reference
from lattice_flows.kernels.algebra_exp import triton as exp_triton
from lattice_flows.kernels.circular_spline import reference as circle_reference
from lattice_flows.kernels.circular_spline import triton as circle_triton
from lattice_flows.kernels.heat_bath import reference as bath_reference
from lattice_flows.kernels.heat_bath import triton as bath_triton
from lattice_flows.kernels.link_products import triton as product_triton
from lattice_flows.kernels.link_sums import reference as sum_reference
from lattice_flows.kernels.link_sums import triton as sum_triton
from lattice_flows.kernels.link_sweeps import reference as sweep_reference
from lattice_flows.kernels.link_sweeps import triton as sweep_triton
from lattice_flows.kernels.link_sweeps.reference import HEAT_BATH, OVER_RELAXATION
from lattice_flows.kernels.link_trajectories import reference as trajectory_reference
from lattice_flows.kernels.link_trajectories import triton as trajectory_triton
from lattice_flows.kernels.spectral_flow import reference as flow_reference
from lattice_flows.kernels.spectral_flow import triton as flow_triton
from lattice_flows.kernels.triton_common import BLOCK, WARP
from lattice_flows.kernels.uniforms import reference as uniform_reference
from lattice_flows.kernels.uniforms import triton as uniform_triton

INTERPRETED = knobs.runtime.interpret
DEVICE = "cpu" if INTERPRETED else "cuda"
# Lanes compute both sides of a tl.where; numpy, behind the interpreter, warns of the one that is not taken.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
runs = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(),
    reason="needs a GPU; test_in_the_interpreter runs it without one",
)

DTYPES = [torch.float64, torch.float32]
FORMS = [(False, torch.float32), (True, torch.float64)]
"""Directions of splines, each in one precision: the code of a direction is the same in both."""

# Of values, log-determinants and gradients, the last relative to the largest element.
TOLERANCES = {torch.float64: (1e-10, 1e-10, 1e-10), torch.float32: (2e-5, 1e-4, 1e-3)}


@pytest.mark.skipif(INTERPRETED, reason="is what runs the others here")
def test_in_the_interpreter():
    """All tests that could run on a GPU, in a process of their own: Triton reads the variable when it is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "LATTICE_FLOWS_KERNELS": "reference"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory that is not written to holds NaN."""
    for name in ("empty", "empty_like"):
        allocate = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *args, _allocate=allocate, **kw: _allocate(*args, **kw).fill_(math.nan))


def normal(*shape, generator, dtype=torch.float64):
    """Random numbers that single precision holds exactly."""
    numbers = torch.randn(*shape, generator=generator).to(dtype.to_real())
    return torch.complex(numbers, torch.randn(*shape, generator=generator).to(numbers)) if dtype.is_complex else numbers


def matrices(n, rows, generator):
    """Haar-distributed SU(N) matrices `(3, rows, N, N)` in double precision, near ones of single precision."""
    return nearest(samples.haar(n, 3 * rows, generator).to(torch.complex64)).reshape(3, rows, n, n)


def nearest(w):
    """In double precision, the SU(N) matrices that are nearest to single-precision ones."""
    left, _, right = torch.linalg.svd(w.to(torch.complex128))
    w = left @ right
    return w * (torch.linalg.det(w).conj() ** (1 / w.shape[-1]))[..., None, None]


def on(device, dtype, *tensors):
    """Tensors on a device, in the precision of dtype, their strides kept."""
    return [t.to(device, dtype.to_complex() if t.is_complex() else dtype) for t in tensors]


def check(results, expected, dtype):
    """Against the reference: as many values as gradients, the latter relative to the largest."""
    values, tolerances = len(results) // 2, TOLERANCES[dtype]
    for k, (result, right) in enumerate(zip(results, expected, strict=True)):
        assert result.shape == right.shape
        assert result.dtype.to_real() == dtype
        error = (result.cpu().to(right.dtype) - right).abs().max()
        tolerance = tolerances[k] if k < values else tolerances[2] * right.abs().max()
        assert error <= tolerance, f"output {k} is off by {error:.1e}, {tolerance:.1e} allowed"


@runs
@pytest.mark.parametrize(("inverse", "dtype"), FORMS)
@pytest.mark.parametrize("bins", [1, 8])
def test_circular_spline(bins, inverse, dtype, generator):
    angle = math.pi * (2 * torch.rand(3, 11, generator=generator) - 1).double()
    angle[0, 0], angle[0, 1], angle[0, 2] = -3.1415, 0, -math.pi  # near the cut, and on it
    params = normal(3, circle_reference.n_params(bins), 11, generator=generator).movedim(1, 2)
    grads = normal(2, 3, 11, generator=generator)
    _compare(circle_reference, circle_triton, "circular_spline", angle, params, grads, bins, inverse, dtype)


@runs
@pytest.mark.parametrize(("inverse", "dtype"), FORMS)
@pytest.mark.parametrize("n", [2, 3])
def test_spectral_flow(n, inverse, dtype):
    """In units of what is allowed, which the module `accuracy` says; the interpreter takes as long for a full block."""
    each = BLOCK // len(samples.KINDS) if INTERPRETED else BLOCK
    for kind, errors in accuracy.worst(samples.KINDS, n, each, dtype, inverse, accuracy.of_triton).items():
        assert errors.pop("largest gradient") < 1e4, kind
        assert {"unitarity", "g", "logdet", "grad params"} <= set(errors)
        for name, error in errors.items():
            assert error <= 1, (kind, name, error)


@runs
@pytest.mark.parametrize(("inverse", "dtype"), FORMS)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("bins", [1, 5])
def test_numbers_of_bins(bins, n, inverse, dtype, generator):
    w = matrices(n, 11, generator)
    params = normal(3, flow_reference.n_params(n, bins), 11, generator=generator).movedim(1, 2)
    grads = normal(3, 11, n, n, generator=generator, dtype=torch.complex128), normal(3, 11, generator=generator)
    _compare(flow_reference, flow_triton, "spectral_flow", w, params, grads, bins, inverse, dtype)


def _compare(reference, kernels, name, x, params, grads, bins, inverse, dtype):
    def results(module, x, params, *grads):
        return (
            *getattr(module, name)(x, params, bins, inverse),
            *getattr(module, f"{name}_backward")(x, params, *grads, bins, inverse),
        )

    found = results(kernels, *on(DEVICE, dtype, x, params, *grads))
    assert found[3].stride() == torch.empty_like(params).stride()
    check(found, results(reference, x, params, *grads), dtype)


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["large", "any", "small", "tiny", "degenerate", "zero"])
@pytest.mark.parametrize("n", [2, 3])
def test_algebra_exp(n, kind, dtype, generator):
    x = normal(33, n, n, generator=generator, dtype=torch.complex128)
    if kind == "degenerate":
        frame = SU(n).haar(33, generator=generator, dtype=torch.float64)
        x = 1j * (frame * torch.tensor([1.0] * (n - 1) + [1.0 - n])) @ frame.mH
    else:
        x = x * {"large": 5.0, "any": 1.0, "small": 1e-3, "tiny": 1e-20, "zero": 0.0}[kind]
    x = x.to(torch.complex64).to(torch.complex128)
    grad = normal(33, n, n, generator=generator, dtype=torch.complex128)
    arguments = on(DEVICE, dtype, x, grad)
    found = exp_triton.algebra_exp(arguments[0]), exp_triton.algebra_exp_backward(*arguments)
    check(found, (exp_reference.algebra_exp(x), exp_reference.algebra_exp_backward(x, grad)), dtype)
    eye = torch.eye(n, device=DEVICE)
    assert (found[0].mH @ found[0] - eye).abs().max() < 50 * torch.finfo(dtype).eps
    if kind == "small":  # small elements off the diagonal keep their digits
        x = exp_reference.project(x)
        error = ((found[0].cpu() - x - x @ x / 2) * (1 - torch.eye(n))).abs().max()
        assert error < 1e-8 + 1e-5 * x.abs().max() * (dtype == torch.float32)


@runs
@pytest.mark.parametrize(("inverse", "dtype"), FORMS)
@pytest.mark.parametrize("n", [2, 3])
def test_coinciding_phases(n, inverse, dtype, generator):
    """At the centre of the group, and where two phases are one, everything is finite and g unitary."""
    w = torch.eye(n, dtype=torch.complex128).repeat(2, 3, 1, 1)
    w[0, 1] *= complex(math.cos(2 * math.pi / n), math.sin(2 * math.pi / n))
    w[0, 2] = torch.diag(torch.tensor([1] * (n - 2) + [-1.0, -1]))
    w[1, 0] = torch.diag(torch.exp(1j * torch.tensor([0.5] * (n - 1) + [0.5 - n / 2])))
    w[1, 1:] *= torch.exp(1j * torch.tensor(1e-8)) if n == 2 else 1
    params = normal(2, 3, flow_reference.n_params(n, 8), generator=generator)
    grads = normal(2, 3, n, n, generator=generator, dtype=torch.complex128), normal(2, 3, generator=generator)
    w, params, *grads = on(DEVICE, dtype, w, params, *grads)
    g, logdet = flow_triton.spectral_flow(w, params, 8, inverse)
    assert (g.mH @ g - torch.eye(n, device=DEVICE)).abs().max() < 50 * torch.finfo(dtype).eps
    grad_w, grad_params = flow_triton.spectral_flow_backward(w, params, *grads, 8, inverse)
    for tensor in (logdet, torch.view_as_real(grad_w), grad_params):
        assert torch.isfinite(tensor).all()
    # the gradient at the identity does not depend on the frame: of the log-det, which is a class function, it is 0
    zero = torch.zeros_like(grads[0])
    grad_w, _ = flow_triton.spectral_flow_backward(w, params, zero, grads[1], 8, inverse)
    assert grad_w[0, 0].abs().max() == 0


ORDERS = [(2, 0, 1), (1, 2, 0)]


@runs
@pytest.mark.parametrize(("n", "inverse"), [(2, False), (2, True), (3, False)])
def test_strides_and_blocks(n, inverse, generator):
    """Parameters of any layout, and as many matrices as need two programs, with a conjugated and a strided matrix."""
    rows = BLOCK // 3 + 1
    w = matrices(n, rows, generator).to(DEVICE)
    params = normal(3, rows, flow_reference.n_params(n, 4), generator=generator).to(DEVICE)
    grads = normal(3, rows, n, n, generator=generator, dtype=torch.complex128), normal(3, rows, generator=generator)
    grads = on(DEVICE, torch.float64, *grads)

    def results(w, params):
        g, logdet = flow_triton.spectral_flow(w, params, 4, inverse)
        return g, logdet, *flow_triton.spectral_flow_backward(w, params, *grads, 4, inverse)

    expected = [t.cpu() for t in results(w, params)]
    layouts = [params.permute(order).contiguous().permute([order.index(k) for k in range(3)]) for order in ORDERS]
    layouts.append(torch.nn.functional.pad(params, (1, 2))[..., 1:-2])
    conjugated = w.mT.contiguous().mT.conj().resolve_conj().conj()
    for moved in layouts[: 3 if n == 2 else 1]:
        found = results(conjugated, moved)
        assert found[3].stride() == torch.empty_like(moved).stride()
        check(found, expected, torch.float64)


@runs
def test_empty_batches():
    none = torch.empty(0, 5, 3, 3, dtype=torch.complex64, device=DEVICE)
    params = torch.empty(0, 5, flow_reference.n_params(3, 4), device=DEVICE)
    g, logdet = flow_triton.spectral_flow(none, params, 4)
    assert (g.shape, logdet.shape) == ((0, 5, 3, 3), (0, 5))
    grad_w, grad_params = flow_triton.spectral_flow_backward(none, params, g, logdet, 4, False)
    assert (grad_w.shape, grad_params.shape) == (none.shape, params.shape)
    angle = torch.empty(3, 0, device=DEVICE)
    params = torch.empty(3, 0, circle_reference.n_params(4), device=DEVICE)
    step, logdet = circle_triton.circular_spline(angle, params, 4)
    assert step.shape == logdet.shape == angle.shape
    assert circle_triton.circular_spline_backward(angle, params, step, logdet, 4, True)[1].shape == params.shape
    none = none[:, 0]
    assert exp_triton.algebra_exp(none).shape == exp_triton.algebra_exp_backward(none, none).shape == none.shape


@runs
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniforms(dtype, generator):
    """The same bits."""
    keys = torch.randint(-(2**63), 2**63 - 1, (3, 2), generator=generator)
    calls = torch.tensor([0, 2**32 - 1, 5])
    for n in (0, 1, 4 * BLOCK + 3, 8 * BLOCK):
        found = uniform_triton.uniforms(keys.to(DEVICE), calls.to(DEVICE), n, dtype)
        assert found.cpu().equal(uniform_reference.uniforms(keys, calls, n, dtype))


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3])
def test_heat_bath(n, dtype, generator):
    """With sums of staples from none at all to large ones, of which some leave an element as it is."""
    size, pairs = 2 * WARP + 5, n * (n - 1) // 2
    elements = matrices(n, size, generator)[0]
    scale = torch.logspace(-6, 1, size, dtype=torch.float64)
    scale[:2] = 0
    staples = matrices(n, 6 * size, generator)[0].unflatten(0, (6, size)).sum(0) * scale[:, None, None]
    uniforms = torch.rand(size, pairs, 1, 4, generator=generator, dtype=torch.float64)
    uniforms[-1, ..., 3] = 0.999999
    u, s, r = on(DEVICE, dtype, elements, staples.to(torch.complex64).to(torch.complex128), uniforms)
    wide = [x.cpu().to(torch.complex128 if x.is_complex() else torch.float64) for x in (u, s, r)]
    found = bath_triton.heat_bath(u, s, 1.5, r), bath_triton.over_relaxation(u, s)
    expected = bath_reference.heat_bath(*wide[:2], 1.5, wide[2]), bath_reference.over_relaxation(*wide[:2])
    for left, right in zip(found, expected, strict=True):
        error = (left.cpu() - right).abs().amax((1, 2)).double()
        assert left.dtype == u.dtype
        assert error.quantile(0.97) < 100 * n * torch.finfo(dtype).eps  # a rounding may decide about a proposal
        assert (left.cpu() @ left.cpu().mH - torch.eye(n)).abs().max() < 50 * torch.finfo(dtype).eps
    assert found[0][-1].equal(u[-1])


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_link_sums(n, dtype, generator):
    links = normal(2, 7, n, n, generator=generator, dtype=torch.complex128)
    tables = torch.randint(7, (3, 2, BLOCK // 2 + 1), generator=generator)
    forward, active = [True, False, True, True, False, False], torch.randint(7, tables.shape[2:], generator=generator)
    (u,), tables_there, active_there = on(DEVICE, dtype, links), tables.to(DEVICE), active.to(DEVICE)
    found = (
        sum_triton.link_sums(u, tables_there, forward),
        sum_triton.link_forces(u, tables_there, forward, active_there),
        product_triton.link_products(u, tables_there[0], forward[:2]),
    )
    expected = (
        sum_reference.link_sums(links, tables, forward),
        sum_reference.link_forces(links, tables, forward, active),
        sum_reference.link_products(links, tables[0], forward[:2]),
    )
    check((*found, *found), (*expected, *expected), dtype)
    tables_there[1, 1, 5] = 7
    assert sum_triton.link_sums(u, tables_there, forward).isnan().any((2, 3)).nonzero()[:, 1].tolist() == [5, 5]


def in_order_of_colours(links, extents, weights, moves, keys, calls):
    """The reference of link_sweeps, a link at a time, in the order of a GPU."""
    order, _ = sweep_triton._colours(extents, torch.device("cpu"))
    dim, volume = len(extents), math.prod(extents)
    grid, ends = torch.arange(volume).reshape(extents), torch.arange(dim * volume)
    for move in moves:
        for here in order.long():
            mu, site, tables = int(here) // volume, int(here) % volume, []
            for nu in set(range(dim)) - {mu}:
                up, down = ([grid.roll(-step, k).flatten() for k in range(dim)] for step in (1, -1))
                below = down[nu][site]
                tables.append((nu, up[mu][site], mu, up[nu][site], nu, site, weights[mu, nu], (True, False, False)))
                tables.append((nu, up[mu][below], mu, below, nu, below, weights[mu, nu], (False, False, True)))
            total = 0
            for a, x, b, y, c, z, weight, forward in tables:
                table = torch.tensor([[[a * volume + x], [b * volume + y], [c * volume + z]]])
                total = total + weight * sum_reference.link_sums(links, table, forward)[:, 0]
            index = ends[here : here + 1]
            numbers = sweep_reference._numbers(keys, calls, index, links)[:, 0]
            if move == HEAT_BATH:
                new = bath_reference.heat_bath(links[:, here], total, 1.0, numbers)
            else:
                new = bath_reference.over_relaxation(links[:, here], total)
            links = links.index_copy(1, index, new[:, None])
        calls = calls + (move == HEAT_BATH)
    return sweep_reference.link_sweeps(links, extents, [1] * dim, weights, [], keys, calls, False)


@runs
@pytest.mark.parametrize(
    ("n", "extents", "dtype", "moves"),
    [
        (
            2,
            (2, 2),
            torch.float64,
            (HEAT_BATH, OVER_RELAXATION, HEAT_BATH),
        ),
        (2, (2, 3), torch.float32, (HEAT_BATH,)),  # with colours of the sites at an odd end
        (3, (2, 2), torch.float64, (OVER_RELAXATION, HEAT_BATH)),
        (3, (2, 2), torch.float32, (HEAT_BATH,)),
    ],
    ids=str,
)
def test_link_sweeps(n, extents, dtype, moves, generator):
    """With a coupling of its own for every plane; in the first case the first chains come again in a second block."""
    chains, dim = 3, len(extents)
    links = matrices(n, dim * math.prod(extents), generator)
    weights = torch.rand(dim, dim, generator=generator, dtype=torch.float64) + 0.5
    weights = weights + weights.T
    keys, calls = torch.randint(-(2**63), 2**63 - 1, (chains, 2), generator=generator), torch.tensor([0, 2**31, 7])
    (u,), all_chains = on(DEVICE, dtype, links), torch.arange(WARP + 1 if len(moves) == 3 else chains) % chains
    arguments = (x[all_chains].to(DEVICE) for x in (keys, calls))
    found, actions = sweep_triton.link_sweeps(u[all_chains], extents, [1] * dim, weights, moves, *arguments, True)
    assert found.equal(found[all_chains])  # whatever stands beside a chain
    exact, after = in_order_of_colours(u.cpu(), extents, weights.to(dtype), moves, keys, calls)
    _, before = sweep_reference.link_sweeps(u.cpu(), extents, [1] * dim, weights.to(dtype), [], keys, calls, False)
    assert found.dtype == u.dtype
    assert (found[:chains].cpu() - exact).abs().max() < 1e4 * torch.finfo(dtype).eps  # multiplied by other links
    assert (actions[:chains].cpu() - torch.cat((before, after), 1)).abs().max() < 1e5 * torch.finfo(dtype).eps


@runs
@pytest.mark.parametrize(
    ("n", "extents", "dtype", "step"),
    [(2, (2, 2), torch.float64, 0.2), (3, (2, 2), torch.float64, 0.8), (3, (2, 2), torch.float32, 0.2)],
)
def test_link_trajectories(n, extents, dtype, step, generator):
    """Also with steps so large that exponentials are squared."""
    chains, dim = 3, len(extents)
    links = matrices(n, dim * math.prod(extents), generator)[:chains]
    weights = torch.rand(dim, dim, generator=generator, dtype=torch.float64) + 0.5
    weights = weights + weights.T
    keys, calls = torch.randint(-(2**63), 2**63 - 1, (chains, 2), generator=generator), torch.tensor([0, 2**31, 7])
    (u,), kicks = on(DEVICE, dtype, links), [0.5 * step, step]
    arguments = extents, [1] * dim, weights, kicks, step
    found = trajectory_triton.link_trajectories(u, *arguments, keys.to(DEVICE), calls.to(DEVICE))
    exact = trajectory_reference.link_trajectories(u.cpu(), *arguments, keys, calls)
    assert found[0].dtype == u.dtype
    for left, right in zip(found, exact, strict=True):
        assert (left.cpu() - right).abs().max() < 300 * torch.finfo(dtype).eps * right.abs().max()


TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}


def spline_call(module, op, *element):
    """An op of splines or its backward, on zeros."""

    def call(dtype, inverse):
        x = torch.zeros(2, 3, *element, dtype=dtype.to_complex() if element else dtype)
        columns = flow_reference.n_params(x.shape[-1], 4) if element else circle_reference.n_params(4)
        params, grads = torch.zeros(2, 3, columns, dtype=dtype), (torch.zeros_like(x), torch.zeros(2, 3, dtype=dtype))
        given = (*grads, 4, inverse) if op.endswith("backward") else (4, inverse)
        getattr(module, op)(x, params, *given)

    return call


def zeros(dtype, n, *batch):
    return torch.zeros(*batch, n, n, dtype=dtype.to_complex())


def on_lattice(*extents):
    """Extents, nodes and weights of planes."""
    return extents, [1] * len(extents), torch.ones(len(extents), len(extents), dtype=torch.float64)


TABLES, ACTIVE, STREAMS = (
    torch.zeros(2, 3, 5).long(),
    torch.zeros(5).long(),
    (torch.zeros(3, 2).long(), torch.zeros(3).long()),
)
CALLS = {
    "circle": spline_call(circle_triton, "circular_spline"),
    "circle backward": spline_call(circle_triton, "circular_spline_backward"),
    "su2": spline_call(flow_triton, "spectral_flow", 2, 2),
    "su2 backward": spline_call(flow_triton, "spectral_flow_backward", 2, 2),
    "su3": spline_call(flow_triton, "spectral_flow", 3, 3),
    "su3 backward": spline_call(flow_triton, "spectral_flow_backward", 3, 3),
    "exp2": lambda dtype, _: exp_triton.algebra_exp(zeros(dtype, 2, 4)),
    "exp2 backward": lambda dtype, _: exp_triton.algebra_exp_backward(zeros(dtype, 2, 4), zeros(dtype, 2, 4)),
    "exp3": lambda dtype, _: exp_triton.algebra_exp(zeros(dtype, 3, 4)),
    "exp3 backward": lambda dtype, _: exp_triton.algebra_exp_backward(zeros(dtype, 3, 4), zeros(dtype, 3, 4)),
    "uniforms": lambda dtype, _: uniform_triton.uniforms(*STREAMS, 9, dtype),
    "heat bath 2": lambda dtype, _: bath_triton.heat_bath(
        zeros(dtype, 2, 4), zeros(dtype, 2, 4), 1.0, torch.zeros(4, 1, 2, 4, dtype=dtype)
    ),
    "heat bath 3": lambda dtype, _: bath_triton.heat_bath(
        zeros(dtype, 3, 4), zeros(dtype, 3, 4), 1.0, torch.zeros(4, 3, 2, 4, dtype=dtype)
    ),
    "over-relaxation 2": lambda dtype, _: bath_triton.over_relaxation(zeros(dtype, 2, 4), zeros(dtype, 2, 4)),
    "link sums 1": lambda dtype, _: sum_triton.link_sums(zeros(dtype, 1, 2, 7), TABLES, [True, False, True] * 2),
    "link forces 3": lambda dtype, _: sum_triton.link_forces(
        zeros(dtype, 3, 2, 7), TABLES, [True, False, True] * 2, ACTIVE
    ),
    "link products 3": lambda dtype, _: product_triton.link_products(
        zeros(dtype, 3, 2, 7), TABLES[0], [True, False, True]
    ),
    "sweeps 2": lambda dtype, _: sweep_triton.link_sweeps(
        zeros(dtype, 2, 3, 12), *on_lattice(2, 2, 1), [HEAT_BATH, OVER_RELAXATION], *STREAMS, True
    ),
    "sweeps 3": lambda dtype, _: sweep_triton.link_sweeps(
        zeros(dtype, 3, 3, 64), *on_lattice(2, 2, 2, 2), [HEAT_BATH], *STREAMS, False
    ),
    "trajectories 2": lambda dtype, _: trajectory_triton.link_trajectories(
        zeros(dtype, 2, 3, 24), *on_lattice(2, 2, 2), [0.5, 0.5], 1.0, *STREAMS
    ),
    "trajectories 3": lambda dtype, _: trajectory_triton.link_trajectories(
        zeros(dtype, 3, 3, 64), *on_lattice(2, 2, 2, 2), [0.5, 0.5], 1.0, *STREAMS
    ),
}


def compilations():
    """Every target sees every kernel, in single precision forwards or in double backwards, in turn.

    The compiler's time grows with the cube of a kernel's length, to 10 s and more for the backward one of SU(3): one
    target sees the longest, and those that are parts of others.
    """
    for (t, target), (k, name) in itertools.product(enumerate(TARGETS), enumerate(CALLS)):
        once = name in ("heat bath 3", "link forces 3", "link products 3", "su3 backward")
        if not once or target == "sm_90":
            dtype = torch.float32 if once or (t + k) % 2 else torch.float64
            yield pytest.param(target, dtype, name, id=f"{target}-{dtype}-{name}")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter replaces the compiler")
@pytest.mark.parametrize(("target", "dtype", "name"), list(compilations()))
def test_compiles_without_a_gpu(target, dtype, name, monkeypatch):
    """Every launch of an op gets as far as it can on a machine that has no GPU: its arguments bind, and it compiles."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    class Driver:
        get_current_target = staticmethod(lambda: GPUTarget(*TARGETS[target]))
        get_current_device = staticmethod(lambda: target)
        get_current_stream = staticmethod(lambda device: 0)

    compiled, run = [], JITFunction.run
    monkeypatch.setattr(
        JITFunction, "run", lambda *args, warmup, **kwargs: compiled.append(run(*args, warmup=True, **kwargs))
    )
    monkeypatch.setattr(driver, "_active", Driver())
    CALLS[name](dtype, dtype == torch.float64)
    assert compiled
    for kernel in compiled:
        assert kernel.asm["cubin" if TARGETS[target][0] == "cuda" else "hsaco"]
        # no lane needs another's numbers
        assert kernel.metadata.shared == 0
