"""The twisted loops of six links, around cubes, with their derivatives along a tangent field."""

import functools
import itertools

import torch

from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import lay
from lattice_flows.lattice.space import GaugeField
from lattice_flows.operators.duals import Dual, Walks, products, stacked, walks


def twisted_sum(space: GaugeField, links: Dual) -> Dual:
    """The sum of Re tr over the four loops of six links around each cube: both parts `(*batch,)`, float64.

    A loop goes through six corners of a cube. Its two halves join corners that are opposite, and are multiplied once.
    """
    stack, last = stacked(links), space.lattice.extents[-1]
    found = []
    for both in _halves(space.lattice, links.value.device):
        one, other = products(stack, both).halves()
        found.append(one.overlap(other, last))
    return Dual(*(sum(own[part].sum(-1) for own in found) for part in (0, 1)))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _halves(lattice: Lattice, device: torch.device) -> list[Walks]:
    """First halves, followed by their second halves."""
    found = []
    for a, b, c in itertools.combinations(range(lattice.dim), 3):
        paths = [((a, 1), (b, 1), (c, 1)), ((b, 1), (a, 1), (c, 1)), ((a, 1), (c, 1), (b, 1))]
        for alike in (paths, [((b, 1), (a, -1), (c, 1))]):
            laid = [lay(path, lattice) for path in (*alike, *(path[::-1] for path in alike))]
            table = torch.cat([own.links for own in laid], -1)
            found.append(walks(table.to(device), laid[0].forward, lattice.dim * lattice.volume))
    return found
