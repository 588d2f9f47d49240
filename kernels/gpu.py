"""The Triton kernels of an op, imported at the first call on a GPU."""

import functools
import importlib
import importlib.util
import logging
import types

from lattice_flows.kernels import build

log = logging.getLogger(__name__)


@functools.cache
def implementation(op: str, n: int | None = None) -> types.ModuleType:
    """The Triton kernels of an op, for N up to its LARGEST_ON_GPU, or with one warning its reference."""
    missing = importlib.util.find_spec("triton") is None
    wanted = not build.switched_off()
    largest = getattr(importlib.import_module(f"lattice_flows.kernels.{op}"), "LARGEST_ON_GPU", 0)
    if wanted and not missing and (n is None or n <= largest):
        return importlib.import_module(f"lattice_flows.kernels.{op}.triton")
    if wanted:
        reason = "triton is not installed: pip install triton" if missing else f"none is written for N = {n}"
        log.warning("no GPU kernel of %s: %s; the PyTorch reference runs, which is slower", op, reason)
    return importlib.import_module(f"lattice_flows.kernels.{op}.reference")
