"""Runs the implementations of ops as outside of torch's dispatch modes."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

# What a mode shuts off below itself and an implementation needs: lazy conjugates and torch.func
SHUT_OFF = (
    "Conjugate", "Negative", "ZeroTensor", "ADInplaceOrView", "Functionalize", "FuncTorchBatched",
    "FuncTorchGradWrapper", "FuncTorchVmapMode", "FuncTorchDynamicLayerBackMode", "FuncTorchDynamicLayerFrontMode",
    "PythonTLSSnapshot",
)  # fmt: skip


def outside_modes(function: Callable[P, R]) -> Callable[P, R]:
    """A reference that gives the same when a dispatch mode calls the op, as torch.compile does in its first run.

    What runs below a mode has the dispatch keys above it shut off: `x.mH` and `x.conj()` are then silently x.mT and x,
    and torch.func.vjp crashes. This turns the keys on again for the call.
    """

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        # torch.compile traces what is called by itself, not by an op
        if torch.compiler.is_compiling() or not _below_a_mode():
            return function(*args, **kwargs)
        excluded = torch._C._dispatch_tls_local_exclude_set()
        for name in SHUT_OFF:
            excluded = excluded.remove(torch._C._dispatch_key_parse(name))
        with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
            return function(*args, **kwargs)

    return inner


def _below_a_mode() -> bool:
    return torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.Conjugate)
