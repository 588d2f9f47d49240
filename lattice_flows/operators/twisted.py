"""The twisted loops of six links, around cubes, with their derivatives along a tangent field."""

import functools
import itertools

import torch
from torch import Tensor

from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import Path, lay
from lattice_flows.lattice.space import GaugeField
from lattice_flows.operators.duals import Dual, products, stacked


def twisted_sum(space: GaugeField, links: Dual) -> Dual:
    """The sum of Re tr over the four loops of six links around each cube: both parts `(*batch,)`, float64.

    A loop goes through six corners of a cube. Its two halves join corners that are opposite, and are multiplied once.
    """
    stack, last = stacked(links), space.lattice.extents[-1]
    found = []
    for walks in _halves(space.lattice, links.value.device):
        for table, forward in walks:
            one, other = products(stack, table, forward).halves()
            found.append(one.overlap(other, last))
    return Dual(*(sum(own[part].sum(-1) for own in found) for part in (0, 1)))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=16)
def _halves(lattice: Lattice, device: torch.device) -> list[list[tuple[Tensor, tuple[bool, ...]]]]:
    """For each three directions tables of first halves, followed by those of the second halves."""
    return [
        [
            _table(lattice, [((a, 1), (b, 1), (c, 1)) for a, b, c in ((a, b, c), (b, a, c), (a, c, b))], device),
            _table(lattice, [((b, 1), (a, -1), (c, 1))], device),
        ]
        for a, b, c in itertools.combinations(range(lattice.dim), 3)
    ]


def _table(lattice: Lattice, paths: list[Path], device: torch.device) -> tuple[Tensor, tuple[bool, ...]]:
    walks = [lay(path, lattice) for path in (*paths, *(path[::-1] for path in paths))]
    return torch.cat([walk.links for walk in walks], -1).to(device), walks[0].forward
