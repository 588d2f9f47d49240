"""Laws of the coupling layer over groups, dimensions and precisions, and the context networks."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import gauge_transform
from lattice_flows.layers import (
    ConvContext,
    GaugeCoupling,
    LinkPartition,
    PeriodicConv,
    SpectralMap,
    frozen_features,
    n_frozen_features,
)
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet

everywhere = pytest.mark.parametrize(
    ("group", "partition"),
    list(itertools.product(cases.GROUPS, cases.PARTITIONS)),
    ids=[f"{g}-{p.lattice}-mu{p.mu}" for g, p in itertools.product(cases.GROUPS, cases.PARTITIONS)],
)


@everywhere
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_laws(group, partition, dtype, generator):
    layer = cases.coupling(group, partition).to(dtype)
    n = 10_000 // partition.n_active // 8
    space = GaugeField(group, partition.lattice)
    links = space.prior(n, generator, dtype=dtype)
    with torch.no_grad():
        # the log-determinant sums over active links
        atol = cases.TOLERANCE[dtype] * partition.n_active**0.5
        assert_invertible(layer, links, space, atol=atol)
        assert_gauge_equivariant(layer, links, space, atol=atol, generator=generator)
        y, _ = layer(links)
    assert group.defect(y).max() < {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]


@pytest.mark.parametrize("group", cases.GROUPS[:4], ids=cases.names(cases.GROUPS[:4]))
@pytest.mark.parametrize(
    "partition",
    [LinkPartition.stripes((2, 4), 0, 1), LinkPartition.checkerboard((2, 2, 2), 1, 0)],
    ids=["stripes", "checkerboard"],
)
def test_logdet_is_that_of_the_jacobian(group, partition, generator):
    layer = cases.coupling(group, partition, bins=3).double()
    links = layer.space.prior(1, generator, dtype=torch.float64)[0]
    assert_logdet(layer, links, layer.space)


@pytest.mark.parametrize("partition", cases.PARTITIONS, ids=lambda p: str(p.lattice))
def test_only_active_links_move(partition, generator):
    group = SU(2)
    links = GaugeField(group, partition.lattice).prior(3, generator)
    y, _ = cases.coupling(group, partition)(links)
    moved = ((y - links).abs().amax((-2, -1)) > 0).flatten(1).any(0)
    assert set(moved.nonzero().flatten().tolist()) == set(partition.active_links.tolist())


def test_the_conjugation_map_sees_active_sites_alone():
    """The number of matrices it is given is the number of active links, and no more."""
    seen = []

    class Spy(SpectralMap):
        def forward(self, loop, params):
            seen.append((loop.shape, params.shape))
            return super().forward(loop, params)

    partition, spy = LinkPartition.stripes((8, 8), 0, 0), Spy(SU(2), bins=4)
    GaugeCoupling(SU(2), partition, spy, ConvContext(partition, SU(2), spy.n_params))(SU(2).identity(5, 2, 8, 8))
    assert seen == [((5, 16, 2, 2), (5, 16, 13))]


def test_any_context_module_and_any_batch_axes(generator):
    """A full-lattice network gives the same as one that is asked for the active links."""
    group, partition = SU(3), LinkPartition.stripes((4, 8), 0, 1)
    spectral_map = SpectralMap(group, bins=4)
    conv = PeriodicConv(2, n_frozen_features(partition, group), spectral_map.n_params)

    class ActiveOnly(torch.nn.Module):
        def forward(self, features):
            return conv(features).flatten(-2)[..., partition.active_sites].mT

    links = group.haar(2, 3, 2, 4, 8, generator=generator)
    whole = GaugeCoupling(group, partition, spectral_map, conv)(links)
    active = GaugeCoupling(group, partition, spectral_map, ActiveOnly())(links)
    torch.testing.assert_close(whole, active)
    assert whole[0].shape == links.shape
    assert whole[1].shape == (2, 3)
    alone = GaugeCoupling(group, partition, spectral_map, conv)(links[1, 2])
    torch.testing.assert_close(alone[0], whole[0][1, 2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("group", [U1(), SU(3)], ids=str)
def test_no_configurations(group):
    layer = cases.coupling(group, LinkPartition.stripes((4, 8), 0, 1))
    links, logdet = layer(group.identity(0, 2, 4, 8))
    assert (links.shape, logdet.shape) == ((0, 2, 4, 8, *group.element_shape), (0,))


def test_wrong_links_and_contexts():
    group, partition = U1(), LinkPartition.stripes((4, 8), 0, 1)
    layer = cases.coupling(group, partition)
    with pytest.raises(InvalidInput, match=r"U\(1\), 4x8\) holds real tensors \(\*batch, 2, 4, 8\), got .*\(2, 8, 4\)"):
        layer(group.identity(2, 8, 4))
    for dtype in (torch.complex64, torch.int64):
        with pytest.raises(InvalidInput, match=r"holds real tensors .* got torch.(complex64|int64)"):
            layer(group.identity(2, 4, 8).to(dtype))
    wrong = GaugeCoupling(group, partition, layer.conjugation, PeriodicConv(2, n_frozen_features(partition, group), 3))
    with pytest.raises(InvalidInput, match="context must give"):
        wrong(group.identity(2, 4, 8))
    with pytest.raises(InvalidInput, match="kernel_size"):
        ConvContext(partition, group, 10, kernel_size=2)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_the_convolution_moves_with_the_field(dim, generator):
    extents = (3, 4, 5, 2)[:dim]
    conv = PeriodicConv(dim, 2, 3).double()
    x = torch.randn(6, 7, 2, *extents, generator=generator, dtype=torch.float64)
    y, axes = conv(x), list(range(-dim, 0))
    assert y.shape == (6, 7, 3, *extents)
    shift = list(range(1, dim + 1))
    torch.testing.assert_close(conv(x.roll(shift, axes)), y.roll(shift, axes))


def test_gradcheck_of_the_convolution(generator):
    for dim in (2, 3, 4):
        conv = PeriodicConv(dim, 1, 2).double()
        x = torch.randn(1, 1, *(2, 3, 2, 2)[:dim], generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(conv, (x,))


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_features_are_invariant_and_frozen(group, generator):
    partition = LinkPartition.stripes((4, 8), 1, 2)
    space = GaugeField(group, partition.lattice)
    links = space.prior(1, generator, dtype=torch.float64)[0]

    def features(links):
        return frozen_features(space.flatten(links), partition, group)

    V = group.haar(4, 8, generator=generator, dtype=torch.float64)
    value = features(links)
    assert value.shape == (n_frozen_features(partition, group), 4, 8)
    torch.testing.assert_close(features(gauge_transform(links, V, space)), value, atol=1e-12, rtol=0)
    other = links.clone().flatten(0, 2)
    other[partition.active_links] = group.haar(partition.n_active, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(features(other.reshape(links.shape)), value, atol=0, rtol=0)
