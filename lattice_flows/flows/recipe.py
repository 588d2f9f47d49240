"""Recipes: named architectures with their settings, and initial weights that depend on a seed alone."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Annotated, Any, NamedTuple

import torch

from lattice_flows.config.rules import Rule, Settings, at_least, at_most
from lattice_flows.errors import InvalidInput
from lattice_flows.streams import keyed

Layers = Annotated[int, at_least(1), at_most(1000)]
"""A number of layers."""
Bins = Annotated[int, at_least(2), at_most(1000)]
"""A number of spline bins."""
Widths = Annotated[
    tuple[int, ...],
    Rule("widths, each >= 1", lambda v: all(width >= 1 for width in v)),
    Rule("at most 20 widths up to 10,000", lambda v: len(v) <= 20 and max(v, default=0) <= 10_000),
]
"""The widths of the hidden layers of a network."""
WEIGHTS, SITES = 10**8, 2**22
"""The weights and the sites of the largest flow that a config can ask for."""


class Recipe(NamedTuple):
    """A named architecture of `[flow]` in configs.

    To add one: a file with a builder, its settings and a `Recipe`, and one line in `lattice_flows/config/registry.py`.
    """

    settings: type[Settings]
    """The keys of `[flow]` beside `architecture`."""
    build: Callable[..., Any]
    """`(space, settings, action, *, seed, dtype) -> Flow`: an untrained flow."""
    suits: Callable[[str, int], bool]
    """`(field, dim) -> bool`: whether "auto" may choose it; field is "gauge" or "scalar"."""
    stages: Callable[..., Any] | None = None
    """`(flow, action, training_settings) -> list[Stage]`: the stages of a training. None: the whole flow alone."""
    training: type[Settings] | None = None
    """Further keys of `[training]`."""


def check_size(extents: Sequence[int], networks: int, widths: Sequence[int], kernel_size: int = 1) -> None:
    """Refuse a flow that no machine has the memory for, before anything is made.

    Args:
        networks: their number.
        widths: of the hidden layers of each.
        kernel_size: the extent of their convolutions.

    Raises:
        InvalidInput: more than 2^22 sites, or more than 10^8 weights of the hidden layers alone.
    """
    if math.prod(extents) > SITES:
        raise InvalidInput(f"a flow has at most {SITES:,} sites, got extents {list(extents)}")
    weights = networks * kernel_size ** len(extents) * sum(a * b for a, b in itertools.pairwise((1, *widths, 1)))
    if weights > WEIGHTS:
        raise InvalidInput(
            f"the flow would have more than {weights:,} weights, and may have {WEIGHTS:,}: take fewer layers, a "
            "smaller kernel_size or smaller widths in hidden"
        )


def keywords(settings: Settings, kind: type[Settings]) -> dict[str, Any]:
    """The keys of `kind` and their values in settings that may have more, for a builder with the same arguments."""
    return {field.name: getattr(settings, field.name) for field in fields(kind)}  # type: ignore[arg-type]


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let the initialisers of torch.nn draw from this seed, or without one from torch's global stream.

    They know the global stream alone, so that a copy of it is seeded. The caller's stream does not move.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.set_rng_state(keyed(seed, "weights").get_state())
        yield
