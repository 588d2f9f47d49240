"""A transform applied to Markov chains."""

from collections.abc import Callable

from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.groups import SU, U1
from lattice_flows.layers import Transform
from lattice_flows.sampling.blocks import block_size, in_blocks
from lattice_flows.sampling.streams import Streams

Map = Transform | Flow
"""An invertible map of links with its log-determinant."""


def mapped(
    transform: Callable[[Tensor], tuple[Tensor, Tensor]], links: Tensor, streams: Streams
) -> tuple[Tensor, Tensor]:
    """What a transform, or the inverse of one, makes of the links of chains, and its logdet `(chains,)`.

    Each chain comes out the same, bit for bit, whichever others there are.
    """
    group = SU(links.shape[-1]) if links.is_complex() else U1()
    return in_blocks(transform, links, streams.chains, block_size(group))
