"""Functions of links, such as transforms, applied to Markov chains."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lattice_flows.flows.flow import Flow
from lattice_flows.layers import Transform
from lattice_flows.sampling.blocks import in_blocks
from lattice_flows.streams import Streams

Map = Transform | Flow
"""An invertible map of links with its log-determinant."""

BLOCK = 8  # how many configurations a map is given at a time


def mapped(function: Callable[[Tensor], Any], links: Tensor, streams: Streams) -> Any:
    """What a function, such as a transform or its inverse, makes of the links of chains: a tensor or a tuple of them.

    Each chain comes out the same, bit for bit, whichever others there are.
    """
    return in_blocks(function, links, streams.chains, BLOCK)
