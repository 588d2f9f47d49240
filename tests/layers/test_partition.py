"""Which links are active, and what is frozen and passive."""

import itertools

import pytest
import torch

from lattice_flows import U1
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice, rectangle
from lattice_flows.lattice.paths import follow
from lattice_flows.layers import LinkPartition
from lattice_flows.layers.partition import stripe_lines

PLAQUETTE = {0: rectangle(0, 1, 1, 1), 1: rectangle(1, 1, 0, 1)}


def passive(partition, path):
    """Where a loop along the path of the active ones begins that is neither active nor frozen."""
    marked = ~partition.frozen(path)
    marked.view(-1)[partition.active_sites] = False
    return marked


def test_stripes_on_8x8():
    """A quarter of the plaquettes is active, a quarter passive, half frozen; four lines, of which one is active."""
    for mu, offset in itertools.product((0, 1), range(4)):
        partition = LinkPartition.stripes((8, 8), mu, offset)
        assert partition.n_active == 16
        frozen, others = partition.frozen(PLAQUETTE[mu]), passive(partition, PLAQUETTE[mu])
        line = (torch.arange(8) - offset) % 4
        across = line.expand(8, 8) if mu == 0 else line[:, None].expand(8, 8)
        assert (frozen == ((across == 1) | (across == 2))).all()
        assert (others == (across == 3)).all()


@pytest.mark.parametrize("extents", [(8, 8), (6, 10), (3, 5), (7, 11)])
def test_stripes_cover_every_link_and_plaquette(extents):
    for mu in (0, 1):
        lines = stripe_lines(extents[1 - mu])
        widest = max(b - a for a, b in itertools.pairwise([*lines, extents[1 - mu]]))
        links = set()
        for offset in range(widest):
            partition = LinkPartition.stripes(extents, mu, offset)
            links |= set(partition.active_links.tolist())
            frozen, others = partition.frozen(PLAQUETTE[mu]), passive(partition, PLAQUETTE[mu])
            # active + passive + frozen = all
            assert frozen.sum() + others.sum() + partition.n_active == extents[0] * extents[1]
            assert frozen.any()
        volume = extents[0] * extents[1]
        assert links == set(range(mu * volume, (mu + 1) * volume))


@pytest.mark.parametrize("extents", [(4, 4, 6), (2, 4, 4, 2), (3, 4, 4)])
def test_checkerboard(extents):
    """Every plaquette through mu holds exactly one active link, and every plane without mu is frozen."""
    dim = len(extents)
    for parity, nu in itertools.product((0, 1), range(1, dim)):
        partition = LinkPartition.checkerboard(extents, 0, parity, nu)
        assert partition.n_active == torch.tensor(extents).prod() // 2
        for a, b in itertools.combinations(range(dim), 2):
            frozen = partition.frozen(rectangle(a, 1, b, 1))
            assert not frozen.any() if a == 0 else frozen.all()
        assert passive(partition, rectangle(0, 1, nu, 1)).sum() == partition.n_active
    both = [LinkPartition.checkerboard(extents, 0, parity).active_links for parity in (0, 1)]
    assert len(torch.cat(both).unique()) == torch.tensor(extents).prod()


def test_frozen_loops_hold_no_active_link(generator):
    """Against brute force: moving every active link changes no frozen loop."""
    for partition in (
        LinkPartition.stripes((6, 8), 1, 2),
        LinkPartition.checkerboard((4, 4, 2), 1, 0),
    ):
        n = partition.dim * partition.lattice.volume
        links = U1().haar(n, generator=generator)
        moved = links.index_add(0, partition.active_links, torch.ones(partition.n_active))
        for walk, _ in partition.frozen_loops():
            assert (follow(links, walk, U1()) - follow(moved, walk, U1())).abs().max() == 0
        change = follow(moved, partition.active_loops, U1()) - follow(links, partition.active_loops, U1())
        assert (
            ((change - 1).remainder(2 * torch.pi) < 1e-5)
            .logical_or((change - 1).remainder(2 * torch.pi) > 2 * torch.pi - 1e-5)
            .all()
        )


def test_partition_moves_with_the_module_but_not_into_checkpoints():
    partition = LinkPartition.stripes((4, 4), 0, 0)
    assert partition.state_dict() == {}
    assert partition.lattice == Lattice((4, 4)) == LinkPartition.stripes(Lattice((4, 4)), 0, 0).lattice
    assert "active links: 4 of 32" in repr(partition)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinkPartition.stripes((8, 2), 0, 0), "extents too small"),
        (lambda: LinkPartition.stripes((8, 1), 0, 0), "integer extents >= 2"),
        (lambda: LinkPartition.stripes((8, 8, 8), 0, 0), "two dimensions"),
        (lambda: LinkPartition.stripes((8, 8), 2, 0), "mu = 0 or 1"),
        (lambda: LinkPartition.checkerboard((8, 8), 0, 0), "3 or 4 dimensions"),
        (lambda: LinkPartition.checkerboard((4, 5, 4), 0, 0), "even extents"),
        (lambda: LinkPartition.checkerboard((4, 4, 4), 0, 2), "parity"),
        (lambda: LinkPartition.checkerboard((4, 4, 4), 1, 0, 1), "different directions"),
        (lambda: LinkPartition((4, 4), 0, torch.ones(4, 4, dtype=torch.bool), rectangle(0, 1, 1, 1)), "another active"),
        (lambda: LinkPartition((4, 4), 0, torch.zeros(4, 4, dtype=torch.bool), rectangle(0, 1, 1, 1)), "at least one"),
        (lambda: LinkPartition((4, 4), 1, torch.eye(4, dtype=torch.bool), rectangle(0, 1, 1, 1)), "forward step"),
    ],
)
def test_partitions_that_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
