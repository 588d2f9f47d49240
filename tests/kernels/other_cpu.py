"""Run all ops by kernels for another CPU; print the folders compiled, and the deviations that are too large.

Its word is whether this CPU can run them; otherwise they are compiled alone.
"""

import json
import sys

import torch
from op_cases import DERIVABLE, DRAWN, ON_CPUS, UNDERIVABLE
from op_laws import pull

from lattice_flows import SU
from lattice_flows.kernels import build

COMPILED = set()
NATIVE, CALL = build.native, build.call
SIZES = ((2, torch.complex64), (3, torch.complex128))
MATRICES = 37  # a rest beside the lanes of every CPU


def seen(op, *about):
    """The kernel of an op, which must be there."""
    library = NATIVE(op, *about)
    assert library is not None, f"{op} is not compiled"
    COMPILED.add(op)
    return library


def seeds(x, grads):
    """Incoming gradients of an output."""
    own = grads[: x.numel()].reshape(x.shape)
    return (own if x.is_complex() else own.real).to(x.dtype)


def results(w, grads, exact=None):
    """Values of all ops, and gradients, in double precision; of `exact` where they do not draw."""
    found = {}
    for name, function in (DERIVABLE | UNDERIVABLE | ON_CPUS).items():
        x = w if exact is None or name in DRAWN else exact
        out = function(x)
        out = out if isinstance(out, tuple) else (out,)
        if name in DERIVABLE:
            out = pull(function, (x,), [seeds(y, grads) for y in out])
        found[name] = [x.to(torch.complex128) for x in out]
    return found


def deviations(n, dtype, runs):
    """For each op the largest, if it is out of 1e4 roundings."""
    generator = torch.Generator().manual_seed(n)
    w = SU(n).haar(MATRICES, generator=generator, dtype=torch.float64).to(dtype)
    grads = torch.randn(n * n * MATRICES, generator=generator, dtype=torch.complex128)
    build.native, build.call = seen, CALL if runs else lambda *_: 0
    found = results(w, grads)
    if not runs:
        return {}
    build.native = lambda *_: None
    expected = results(w, grads, w.to(torch.complex128))
    largest = {
        f"{name} {dtype}": max(float((x - y).abs().max()) for x, y in zip(found[name], expected[name], strict=True))
        for name in found
    }
    return {name: value for name, value in largest.items() if not value < 1e4 * torch.finfo(dtype).eps}


if __name__ == "__main__":
    torch.set_num_threads(1)
    wrong = {}
    for n, dtype in SIZES:
        wrong |= deviations(n, dtype, sys.argv[1] == "True")
    print(json.dumps([sorted(COMPILED), wrong]))
