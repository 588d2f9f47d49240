"""Initial weights that depend on a seed alone."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draws of torch.nn's initialisers come from this seed, or without one from torch's global stream.

    They always draw from the global stream: a copy of it is seeded, so that the caller's does not move.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield
