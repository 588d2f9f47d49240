"""Which implementation of every op runs on this machine, and why: what `lattice-flows kernels` prints."""

import functools
import importlib
import importlib.util
from typing import NamedTuple

import torch

from lattice_flows import kernels
from lattice_flows.kernels import build

# The quickest to compile: whether the compiler works is tried, not guessed.
PROBE = ("algebra_exp", torch.float32, 2)


class Choice(NamedTuple):
    """Of one op, what runs on CPUs and on CUDA devices, and for the references among them the reason."""

    op: str
    cpu: str
    cuda: str
    why: str


def choices() -> tuple[list[Choice], str]:
    """A row for every op, and a line about the compiler; at most one small kernel is compiled.

    Raises:
        InvalidInput: LATTICE_FLOWS_KERNELS has a value that means nothing.
    """
    compiler = no_compiler = no_triton = ""
    if build.switched_off():
        no_compiler = no_triton = "LATTICE_FLOWS_KERNELS=reference is set"
    else:
        try:
            compiler = f"compiled by {build.probe(*PROBE)}, kept in {build.cache_folder()}"
        except build.Unavailable as reason:
            no_compiler = str(reason)
        if importlib.util.find_spec("triton") is None:
            no_triton = "triton is not installed"
        elif not torch.cuda.is_available():
            no_triton = "no CUDA device"
    rows = []
    for op in sorted(kernels.__all__):
        # whether torch's dispatcher knows more than the reference for a device
        registered = functools.partial(torch._C._dispatch_has_kernel_for_dispatch_key, f"lattice_flows::{op}")
        in_the_way = {"CPU": no_compiler, "CUDA": no_triton}
        obstacles = {key: why if registered(key) else "there is no kernel" for key, why in in_the_way.items()}
        cpu = "reference" if obstacles["CPU"] else "compiled" + _range(op, "LARGEST")
        cuda = "reference" if obstacles["CUDA"] else "Triton" + _range(op, "LARGEST_ON_GPU")
        why = "; ".join(f"{device}: {obstacle}" for device, obstacle in obstacles.items() if obstacle)
        rows.append(Choice(op, cpu, cuda, why))
    return rows, compiler


def _range(op: str, limit: str) -> str:
    """The N that there are kernels for, where that is a question: beyond, there is the reference."""
    module = importlib.import_module(getattr(kernels, op).__module__)
    largest = getattr(module, limit, None)
    return f", N = {getattr(module, 'SMALLEST', 2)} to {largest}" if largest else ""
