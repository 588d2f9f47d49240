"""Named architectures."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.hierarchical import hierarchical
from lattice_flows.flows.prior import HaarPrior
from lattice_flows.flows.seeding import seeded
from lattice_flows.groups import Group
from lattice_flows.layers.conjugation import conjugation_map
from lattice_flows.layers.context import ConvContext
from lattice_flows.layers.coupling import GaugeCoupling
from lattice_flows.layers.partition import LinkPartition, stripe_lines


def _coupling_flow(
    group: Group,
    sites: tuple[int, ...],
    partitions: Iterable[LinkPartition],
    layers: int,
    bins: int,
    hidden: Sequence[int],
    kernel_size: int,
    seed: int | None,
    dtype: torch.dtype | None,
) -> Flow:
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InvalidInput(f"layers must be an integer >= 1, got {layers!r}")
    with seeded(seed):
        couplings = []
        for partition in itertools.islice(itertools.cycle(partitions), layers):
            conjugation = conjugation_map(group, bins)
            context = ConvContext(partition, group, conjugation.n_params, hidden, kernel_size)
            couplings.append(GaugeCoupling(group, partition, conjugation, context))
    return Flow(HaarPrior(group, sites), couplings).to(dtype)


def stripes(
    group: Group,
    sites,
    *,
    layers: int = 16,
    bins: int = 8,
    hidden: Sequence[int] = (16, 16),
    kernel_size: int = 3,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Two dimensions: couplings on every fourth line, of both directions and every offset in turn.

    Source: G. Kanwar et al., 2003.06413 (U(1)); D. Boyda et al., 2008.05456 (SU(N)).

    Args:
        group: the gauge group.
        sites: two extents >= 3, best multiples of 4.
        layers: the number of couplings; on extents that are multiples of 4, eight move every link once.
        bins: spline bins.
        hidden: channels of the convolutions in each context network.
        kernel_size: their odd extent.
        seed: of the initial weights. Default: torch's global stream.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: extents that the partition cannot be laid on, or numbers out of range.

    Example:
        >>> from lattice_flows import SU
        >>> stripes(SU(3), (8, 8), layers=16, seed=0)
        Flow: SU(3) on 8x8, 16 layers (GaugeCoupling with SpectralMap(SU(3), bins=8)), 64,256 parameters
    """
    sites = check_sites(sites)
    if len(sites) != 2:
        raise InvalidInput(f"stripes are for two dimensions, got sites {sites}; use checkerboard")
    offsets = max(_widest(stripe_lines(extent), extent) for extent in sites)
    # Downwards: a line's passive loops are those of the line below, which is moved next and not again.
    partitions = [LinkPartition.stripes(sites, mu, offset) for mu in (0, 1) for offset in reversed(range(offsets))]
    return _coupling_flow(group, sites, partitions, layers, bins, hidden, kernel_size, seed, dtype)


def checkerboard(
    group: Group,
    sites,
    *,
    layers: int = 24,
    bins: int = 8,
    hidden: Sequence[int] = (16, 16),
    kernel_size: int = 3,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Three and four dimensions: couplings on one direction and one parity at a time, of every plane in turn.

    Args and errors as for `stripes`; the extents are even. 2 dim couplings move every link once, 2 dim (dim - 1) do so
    with every plaquette through it.

    Example:
        >>> from lattice_flows import U1
        >>> checkerboard(U1(), (4, 4, 6), layers=6, hidden=(8,), seed=0)
        Flow: U(1) on 4x4x6, 6 layers (GaugeCoupling with PhaseMap(bins=8)), 3,990 parameters
    """
    sites = check_sites(sites)
    dim = len(sites)
    partitions = [
        LinkPartition.checkerboard(sites, mu, parity, (mu + turn) % dim)
        for turn in range(1, dim)
        for mu in range(dim)
        for parity in (0, 1)
    ]
    return _coupling_flow(group, sites, partitions, layers, bins, hidden, kernel_size, seed, dtype)


def _widest(lines: list[int], extent: int) -> int:
    return max(after - before for before, after in itertools.pairwise([*lines, extent]))


ARCHITECTURES: dict[str, Callable[..., Flow]] = {
    "stripes": stripes,
    "checkerboard": checkerboard,
    "hierarchical": hierarchical,
}


def build(architecture: str, group: Group, sites, **settings) -> Flow:
    """The flow of a named architecture.

    Raises:
        InvalidInput: no such architecture, or settings that it cannot have.
    """
    if architecture not in ARCHITECTURES:
        raise InvalidInput(f"unknown architecture {architecture!r}; available: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](group, sites, **settings)
