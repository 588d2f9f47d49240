"""Functions of links, such as transforms, applied to Markov chains."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.groups import SU, U1
from lattice_flows.layers import Transform
from lattice_flows.sampling.blocks import block_size, in_blocks
from lattice_flows.streams import Streams

Map = Transform | Flow
"""An invertible map of links with its log-determinant."""


def mapped(function: Callable[[Tensor], Any], links: Tensor, streams: Streams) -> Any:
    """What a function, such as a transform or its inverse, makes of the links of chains: a tensor or a tuple of them.

    Each chain comes out the same, bit for bit, whichever others there are.
    """
    group = SU(links.shape[-1]) if links.is_complex() else U1()
    return in_blocks(function, links, streams.chains, block_size(group))
