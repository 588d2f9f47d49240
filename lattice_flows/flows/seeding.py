"""Initial weights that depend on a seed alone."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let the initialisers of torch.nn draw from this seed, or without one from torch's global stream.

    They know the global stream alone, so that a copy of it is seeded. The caller's stream does not move.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield
