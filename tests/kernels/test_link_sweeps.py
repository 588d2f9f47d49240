"""Sweeps in one call: against the reference, exact values, and what a chain depends on."""

import itertools
import math

import pytest
import torch
from op_laws import assert_same_bits_on_avx2, poisoned  # noqa: F401

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import DBW2, Iwasaki, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_sweeps import HEAT_BATH, OVER_RELAXATION, link_sweeps, sublattices
from lattice_flows.planar.exact import plaquette
from lattice_flows.sampling import Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.sampling.heatbath import Sweep

GROUPS = [U1(), SU(2), SU(3), SU(4), SU(6)]
LATTICES = [(8, 8), (12, 12), (4, 4, 8), (4, 4, 4, 4), (3, 2, 2, 32), (4, 4, 4), (3, 5)]
"""The last two leave room for two and for sixteen chains in the lanes of a field."""
LONGER = [(12, 20), (5, 6, 24), (6, 6, 6, 6), (6, 5)]
"""Of sublattices for rectangles, with classes of rows from one to five; the last leaves room for eight chains."""
by_group = pytest.mark.parametrize("group", GROUPS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")
KEYS, CALLS = torch.tensor([[1 << 60, 7], [-5, 1 << 33]]), torch.tensor([3, 2**32 - 9])


def beginning(group, extents, generator, dtype=torch.float64, chains=2):
    """Links, and weights that differ from plane to plane."""
    weights = torch.rand(len(extents), len(extents), generator=generator, dtype=torch.float64) * 2 + 0.1
    links = GaugeField(group, extents).prior(chains, generator, dtype=dtype)
    return links, (weights + weights.T) / 2


def with_rectangles(weights, generator):
    """Weights of rectangles beside them, of either sign, another for each long side."""
    return torch.stack((weights, torch.rand(weights.shape, generator=generator, dtype=torch.float64) - 0.7))


def of_sites(group, extents, generator):
    """Weights of single plaquettes, complex for SU(N >= 3) and U(1)."""
    weights = torch.randn(math.comb(len(extents), 2), *extents, 2, generator=generator, dtype=torch.float64)
    return weights[..., 0].contiguous() if group.n == 2 else torch.view_as_complex(weights)


def referred(monkeypatch, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        return link_sweeps(*arguments)


def assert_agrees_with_the_reference(monkeypatch, group, links, extents, weights):
    """Up to rounding, which sweeps multiply."""
    keys, calls, dtype = KEYS[: len(links)], CALLS[: len(links)], links.real.dtype
    eps = torch.finfo(dtype).eps
    for moves in ([], [OVER_RELAXATION], [HEAT_BATH]):
        arguments = extents, weights, moves, keys, calls
        found, expected = link_sweeps(links, *arguments), referred(monkeypatch, links, *arguments)
        apart = group.distance(found.links, expected.links).double().flatten()
        assert found.links.dtype == links.dtype
        assert found.action.dtype == torch.float64
        assert apart.median() < ({torch.float64: 1e-7, torch.float32: 0.03}[dtype] if moves else 30 * eps)
        if dtype == torch.float64 or not moves:
            torch.testing.assert_close(found.action, expected.action, rtol=0, atol=(1e9 if moves else 1e4) * eps)


@by_group
@by_dtype
@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_agrees_with_the_reference(group, extents, dtype, generator, monkeypatch):
    if (group.n > 3 and (len(extents) > 2 or dtype == torch.float32)) or (3 in extents and group.n != 2):
        pytest.skip("slow, and nothing new")
    links, weights = beginning(group, extents, generator, dtype)
    assert_agrees_with_the_reference(monkeypatch, group, links, extents, weights)


@pytest.mark.parametrize("group", GROUPS[:4], ids=str)
@by_dtype
@pytest.mark.parametrize(
    ("extents", "equal"), [*itertools.product(LONGER, [False]), (LONGER[0], True)], ids=str
)  # the weights of rectangles
def test_agrees_with_the_reference_in_the_presence_of_rectangles(group, extents, equal, dtype, generator, monkeypatch):
    if (len(extents) == 4 and group.n != 2) or (
        group.n > 2 and (dtype == torch.float32 or (extents, group.n) == (LONGER[1], 4))
    ):
        pytest.skip("slow, and nothing new")
    links, weights = beginning(group, extents, generator, dtype, 2 if len(extents) == 2 else 1)
    weights = with_rectangles(weights, generator)
    if equal:
        weights[1] = -0.2
    assert_agrees_with_the_reference(monkeypatch, group, links, extents, weights)


@by_dtype
@pytest.mark.parametrize(
    ("group", "extents"),
    [(U1(), (8, 12)), (U1(), (4, 4, 8)), (SU(2), (4,) * 4), (SU(3), (8, 8)), (SU(3), (4, 4, 8)), (SU(4), (8, 8))],
    ids=str,
)
def test_agrees_with_the_reference_for_weights_of_single_plaquettes(group, extents, dtype, generator, monkeypatch):
    links, weights = GaugeField(group, extents).prior(2, generator, dtype=dtype), of_sites(group, extents, generator)
    assert_agrees_with_the_reference(monkeypatch, group, links, extents, weights)


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3), SU(4)], ids=str)
def test_equal_weights_of_single_plaquettes(group, generator):
    """They are those of planes."""
    links, planes = beginning(group, (4, 4, 8), generator)
    weights = torch.stack([planes[pair].expand(4, 4, 8) for pair in ((0, 1), (0, 2), (1, 2))])
    for kind in (weights, weights.to(torch.complex128)):
        one, two = (link_sweeps(links, (4, 4, 8), w, [OVER_RELAXATION], KEYS, CALLS) for w in (planes, kind))
        assert group.distance(one.links, two.links).median() < 1e-9
        torch.testing.assert_close(one.action, two.action, rtol=1e-9, atol=0)


@pytest.mark.parametrize("group", GROUPS[:3], ids=str)
@by_dtype
@pytest.mark.parametrize("kind", [Wilson, Iwasaki, DBW2])
def test_action_is_that_of_the_loops(group, dtype, kind, generator):
    space = GaugeField(group, (6, 6, 12))
    links, action, eps = space.prior(2, generator, dtype=dtype), kind(space, 1.7), torch.finfo(dtype).eps
    found = link_sweeps(links, (6, 6, 12), action.loop_weights(), [], KEYS, CALLS)
    torch.testing.assert_close(found.action, action(links).double(), rtol=0, atol=2e3 * eps * (1 - 16 * action.c1))
    assert group.distance(found.links, links).max() < 30 * eps


@pytest.mark.parametrize("rectangles", [False, True])
def test_action_before_the_moves(rectangles, generator, monkeypatch):
    """It is that of no moves, and changes nothing else."""
    links, weights = beginning(SU(3), (6,) * 4, generator, torch.float32)
    arguments = (6,) * 4, with_rectangles(weights, generator) if rectangles else weights
    old, new = (link_sweeps(links, *arguments, moves, KEYS, CALLS) for moves in ([], [HEAT_BATH, OVER_RELAXATION]))
    both = link_sweeps(links, *arguments, [HEAT_BATH, OVER_RELAXATION], KEYS, CALLS, before=True)
    assert torch.equal(both.action, torch.stack((old.action, new.action), 1))
    assert torch.equal(both.links, new.links)
    expected = referred(monkeypatch, links, *arguments, [OVER_RELAXATION], KEYS, CALLS, True)
    torch.testing.assert_close(expected.action[:, 0], old.action, rtol=1e-5, atol=0)
    torch.testing.assert_close(expected.action[:, 1], old.action, rtol=1e-5, atol=0)


@by_group
@by_dtype
@pytest.mark.parametrize(("extents", "rectangles"), [((4,) * 4, False), ((6,) * 4, True), ((12, 20), True)], ids=str)
def test_over_relaxation_keeps_the_action_and_moves_every_link(group, dtype, extents, rectangles, generator):
    links, weights = beginning(group, extents, generator, dtype)
    if rectangles:
        weights = with_rectangles(weights, generator)
    before = links.clone()
    old, new = (link_sweeps(links, extents, weights, moves, KEYS, CALLS) for moves in ([], [OVER_RELAXATION] * 4))
    size = math.comb(len(extents), 2) * math.prod(extents) * group.n * (1 + 4 * rectangles)
    assert (new.action - old.action).abs().max() < 100 * torch.finfo(dtype).eps * size**0.5
    assert group.distance(new.links, links).min() > 1e-6
    assert group.defect(new.links).max() < 20 * group.n * torch.finfo(dtype).eps
    assert torch.equal(links, before)


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3), SU(4)], ids=str)
def test_exact_plaquettes_of_tori(group, generator):
    """In two dimensions the plaquettes of a torus are known."""
    beta, extents, chains = 1.3 * group.n, (8, 8), 40
    space = GaugeField(group, extents)
    weights = torch.full((2, 2), beta / group.n, dtype=torch.float64)
    keys, calls = torch.arange(2 * chains).reshape(chains, 2), torch.zeros(chains, dtype=torch.int64)
    links, series = space.prior(chains, generator, dtype=torch.float64), []
    for step in range(60):
        found = link_sweeps(links, extents, weights, [HEAT_BATH, OVER_RELAXATION, HEAT_BATH], keys, calls)
        links, calls = found.links, calls + 2
        if step >= 10:
            series.append(-found.action / (beta * 64))
    values = torch.stack(series).mean(0)
    exact = plaquette(group, beta, 64)
    assert abs(values.mean() - exact) < 4 * values.std() / chains**0.5
    assert values.std() / chains**0.5 < 0.005


@pytest.mark.parametrize(("beta", "extent", "exact", "error"), [(5.7, 4, 0.5595, 0.0004)])
def test_plaquette_of_su3_in_four_dimensions(beta, extent, exact, error):
    space = GaugeField(SU(3), (extent,) * 4)
    chains, weights = 8, torch.full((4, 4), beta / 3, dtype=torch.float64)
    keys, calls = torch.arange(2 * chains).reshape(chains, 2) + 99, torch.zeros(chains, dtype=torch.int64)
    links, series = space.cold(chains, dtype=torch.float32), []
    for step in range(250):
        found = link_sweeps(links, space.lattice.extents, weights, [HEAT_BATH, *[OVER_RELAXATION] * 4], keys, calls)
        links, calls = found.links, calls + 1
        if step >= 50:
            series.append(-found.action / (beta * 6 * extent**4))
    values = torch.stack(series).mean(0)
    own = values.std() / chains**0.5
    assert abs(values.mean() - exact) < 4 * math.hypot(own, error)
    assert own < 0.001


EXACT = [(U1(), (12, 12), 1.5), (SU(2), (6,) * 4, 1.4), (SU(3), (6, 6, 12), 5.0), (SU(4), (12, 12), 5.0)]


@pytest.mark.parametrize(("group", "extents", "beta"), EXACT, ids=str)
def test_equation_of_motion_of_improved_actions(group, extents, beta):
    """<inner(F, F)> is the mean of the Laplacian of S, C times the loops through all links: exact at any coupling."""
    action, chains = Iwasaki(GaugeField(group, extents), beta), 200 if len(extents) == 2 else 16
    casimir = 1 if group.n == 1 else (group.n**2 - 1) / (2 * group.n)
    streams, differences, laplacians = Streams(3, chains), [], []
    (weight, plaquettes), _ = action.terms()
    sampler = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    state = sampler.init(start(action.space, streams, "cold", dtype=torch.float32))
    for step in range(45):
        state, _ = sampler.step(state, streams)
        if step >= 15 and step % 3 == 0:
            force, loops = action.force(state.x), weight * plaquettes.value(state.x)
            laplacians.append(-casimir * (4 * loops + 6 * (state.action - loops)).double())
            differences.append(action.space.inner(force, force) - laplacians[-1])
    values = torch.stack(differences).mean(0) / torch.stack(laplacians).mean()
    assert abs(values.mean()) < 4 * values.std() / chains**0.5
    assert values.std() / chains**0.5 < 0.005
    torch.testing.assert_close(state.action, action(state.x), rtol=1e-5, atol=1e-3)


@by_group
@pytest.mark.parametrize("rectangles", [False, True])
def test_a_chain_depends_on_itself_alone(group, rectangles, generator):
    """To the last bit: not on the chains beside it, on the number of threads, or on how sweeps are handed over."""
    large, small = ((24, 24, 3, 3), (24, 24)) if rectangles else ((8, 4, 6, 4), (8, 12))
    links, weights = beginning(group, large if group.n < 4 else small, generator)
    if rectangles:
        weights = with_rectangles(weights, generator)
    depends_on_itself_alone(group, links, weights, KEYS, CALLS)


@pytest.mark.parametrize("group", GROUPS[:4], ids=str)
@pytest.mark.parametrize(
    ("extents", "rectangles", "dtype"),
    [((4, 4, 4), False, torch.float32), ((5, 3), False, torch.float64), ((6, 6), True, torch.float32)],
    ids=str,
)
def test_a_chain_in_the_lanes_of_others_depends_on_itself_alone(group, extents, rectangles, dtype, generator):
    links, weights = beginning(group, extents, generator, dtype, chains=21)
    if rectangles:
        weights = with_rectangles(weights, generator)
    keys, calls = torch.arange(42).reshape(21, 2) << 30, torch.arange(21) + 2**32 - 9
    depends_on_itself_alone(group, links, weights, keys, calls)
    arguments = extents, weights, [HEAT_BATH, OVER_RELAXATION, HEAT_BATH]
    whole = link_sweeps(links, *arguments, keys, calls)
    backwards = link_sweeps(links.flip(0), *arguments, keys.flip(0), calls.flip(0))
    assert torch.equal(whole.links, backwards.links.flip(0))
    assert torch.equal(whole.action, backwards.action.flip(0))


def depends_on_itself_alone(group, links, weights, keys, calls):
    extents, threads = tuple(links.shape[2 : 2 + weights.shape[-1]]), torch.get_num_threads()
    moves = [HEAT_BATH, OVER_RELAXATION, HEAT_BATH]
    try:
        torch.set_num_threads(1)
        whole = link_sweeps(links, extents, weights, moves, keys, calls)
        torch.set_num_threads(3)
        threaded = link_sweeps(links, extents, weights, moves, keys, calls)
    finally:
        torch.set_num_threads(threads)
    second = link_sweeps(links[1:2], extents, weights, moves, keys[1:2], calls[1:2])
    first = link_sweeps(links, extents, weights, moves[:2], keys, calls)
    then = link_sweeps(first.links, extents, weights, moves[2:], keys, calls + 1)
    assert torch.equal(whole.links, threaded.links)
    assert torch.equal(whole.action, threaded.action)
    assert torch.equal(whole.links[1:2], second.links)
    assert torch.equal(whole.action[1:2], second.action)
    if group.n in (2, 3):  # angles, and the determinants of larger N, are rounded between calls
        assert torch.equal(whole.links, then.links)
        assert torch.equal(whole.action, then.action)


BITS = """
import torch
from lattice_flows import SU, GaugeField
from lattice_flows.kernels.link_sweeps import link_sweeps
for group, dtype in ((SU(2), torch.float64), (SU(3), torch.float32)):
    weights = torch.full((3, 3), 1.5, dtype=torch.float64)
    single = torch.linspace(0, 2, 3 * 128, dtype=torch.float64).reshape(3, 4, 4, 8) * (1 if group.n == 2 else 1j)
    both = torch.stack((weights, -0.1 * weights))
    for extents, weights in (((4, 4, 8), weights), ((4, 4, 4), weights), ((3, 12, 16), both), ((4, 4, 8), single)):
        links = GaugeField(group, extents).prior(1, torch.Generator().manual_seed(1), dtype=dtype)
        new = link_sweeps(links, extents, weights, [0, 1, 0], torch.tensor([[1, 2]]), torch.tensor([0]))
        print(new.links.numpy().tobytes().hex(), new.action.item().hex())
"""


def test_no_bit_depends_on_the_width_of_vectors():
    assert_same_bits_on_avx2(BITS, 8)


@pytest.mark.parametrize(
    ("extents", "cut"),
    [
        ((8,) * 4, (1, 1, 4, 4)),
        ((4,) * 4, (2,) * 4),
        ((8, 8), (4, 4)),
        ((16, 6, 5), (8, 2, 1)),
        ((4,) * 3, (2,) * 3),
        ((5,) * 4, (1,) * 4),
    ],
    ids=str,
)
def test_sublattices(extents, cut):
    assert sublattices(extents) == cut


@pytest.mark.parametrize(
    ("extents", "cut"),
    [((8,) * 4, (2,) * 4), ((16,) * 4, (1, 1, 4, 4)), ((3, 6, 24), (1, 2, 8)), ((4,) * 4, (1,) * 4), ((2, 9), None)],
    ids=str,
)
def test_sublattices_for_rectangles(extents, cut):
    """A rectangle reaches two sites further: sublattices are longer, and so is the lattice where it is not cut."""
    assert sublattices(extents, reach=2) == cut


def test_bad_input(generator):
    links, weights = beginning(SU(3), (8, 8), generator)
    good = (links, (8, 8), weights, [HEAT_BATH], KEYS, CALLS)
    for place, bad, match in [
        (0, links[..., :2], "links must be"), (1, (4, 16), "links must be"), (2, weights.float(), "weights must be"),
        (2, weights + torch.tensor([[0, 1], [0, 0]]), "symmetric"), (3, [2], "moves are"),
        (2, torch.stack([weights] * 3), r"with those of rectangles \(2, 2, 2\)"),
        (2, torch.zeros(1, 8, 4, dtype=torch.float64), r"float64 or complex128 \(1, 8, 8\), got .* \(1, 8, 4\)"),
        (4, KEYS[:1], "keys and calls"), (5, CALLS[:1], "keys and calls"),
    ]:  # fmt: skip
        with pytest.raises(InvalidInput, match=match):
            link_sweeps(*good[:place], bad, *good[place + 1 :])
    short, weights = beginning(SU(3), (8, 2), generator)
    with pytest.raises(InvalidInput, match="of extents >= 3, got"):
        link_sweeps(short, (8, 2), with_rectangles(weights, generator), *good[3:])
    with pytest.raises(NotImplementedError, match="no derivative"):
        link_sweeps(links.requires_grad_(), *good[1:]).action.sum().backward()


@by_group
@pytest.mark.parametrize("move", [HEAT_BATH, OVER_RELAXATION])
def test_what_is_not_a_number_is_not_hidden(group, move, generator):
    links, weights = beginning(group, (8, 8), generator)
    links[0, 0, 3, 3] = math.nan
    found = link_sweeps(links, (8, 8), weights, [move], KEYS, CALLS)
    assert found.action[0].isnan()
    assert found.links[0, 0, 3, 3].isnan().all()
    assert not found.links[1].isnan().any()


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@on_a_gpu
@pytest.mark.parametrize(
    ("group", "extents"), [(U1(), (8, 8)), (SU(2), (8, 8)), (SU(3), (8, 8)), (SU(2), (5, 8))], ids=str
)
@by_dtype
def test_exact_plaquettes_on_a_gpu(group, extents, dtype, monkeypatch):
    """By samplers, with all chains in one call but for U(1); on a torus, also one of an odd extent."""
    if group.n > 1:
        monkeypatch.setattr(Sweep, "by_cells", None)
    beta, chains, volume = 1.3 * group.n, 300, math.prod(extents)
    action, streams = Wilson(GaugeField(group, extents), beta), Streams(3, chains, "cuda")
    sampler = Cycle([(HeatBath(action), 2), (OverRelaxation(action), 1)])
    state, series = sampler.init(start(action.space, streams, "cold", dtype=dtype)), []
    for step in range(60):
        state, _ = sampler.step(state, streams)
        if step >= 30:
            series.append(-state.action.double() / (beta * volume))
    values = torch.stack(series).mean(0)
    assert abs(values.mean() - plaquette(group, beta, volume)) < 4 * values.std() / chains**0.5
    torch.testing.assert_close(state.action, action(state.x), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
    assert group.defect(state.x).max() < 50 * torch.finfo(dtype).eps


@on_a_gpu
@pytest.mark.parametrize("group", [SU(2), SU(3)], ids=str)
def test_a_chain_on_a_gpu_depends_on_itself_alone(group, generator):
    """To the last bit: not on the chains beside it, or on how sweeps are handed over."""
    chains, extents, moves = 70, (4, 6, 4), [HEAT_BATH, OVER_RELAXATION, HEAT_BATH]
    links, weights = beginning(group, extents, generator, torch.float32, chains)
    keys, calls = torch.arange(2 * chains).reshape(chains, 2), torch.arange(chains)
    links, keys, calls = (x.to("cuda") for x in (links, keys, calls))
    whole = link_sweeps(links, extents, weights, moves, keys, calls)
    part = link_sweeps(links[33:40], extents, weights, moves, keys[33:40], calls[33:40])
    first = link_sweeps(links, extents, weights, moves[:2], keys, calls)
    then = link_sweeps(first.links, extents, weights, moves[2:], keys, calls + 1)
    assert torch.equal(whole.links[33:40], part.links)
    assert torch.equal(whole.action[33:40], part.action)
    assert torch.equal(whole.links, then.links)
    assert torch.equal(whole.action, then.action)


@on_a_gpu
def test_plaquette_of_su3_in_four_dimensions_on_a_gpu():
    """That of the chains of CPUs, which walk in another order."""
    action, streams = Wilson(GaugeField(SU(3), (4,) * 4), 5.7), Streams(5, 256, "cuda")
    sampler = Cycle([(HeatBath(action), 1), (OverRelaxation(action), 4)])
    state, series = sampler.init(start(action.space, streams, "cold")), []
    for step in range(150):
        state, _ = sampler.step(state, streams)
        if step >= 50:
            series.append(-state.action.double() / (5.7 * 6 * 4**4))
    values = torch.stack(series).mean(0)
    assert abs(values.mean() - 0.5595) < 4 * math.hypot(values.std() / 256**0.5, 0.0004)
