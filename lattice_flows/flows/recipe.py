"""Recipes: named architectures with their settings, and initial weights that depend on a seed alone."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Annotated, Any, NamedTuple

import torch

from lattice_flows.config.rules import Rule, Settings, at_least

Bins = Annotated[int, at_least(2)]
"""A number of spline bins."""
Widths = Annotated[tuple[int, ...], Rule("widths, each >= 1", lambda v: all(width >= 1 for width in v))]
"""The widths of the hidden layers of a network."""


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
            torch.manual_seed(seed)
        yield
