"""What the tests of ops share: values with gradients, and torch.compile and dispatch modes against eager calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

OPS = torch.ops.lattice_flows
MARKS = [pytest.mark.usefixtures("poisoned"), pytest.mark.filterwarnings("ignore:.*torch.jit.script")]

by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
by_direction = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])

PARAMETERS = {
    "row by row": lambda p: p,
    "plane by plane": lambda p: p.flatten(0, 1).T.contiguous().T.unflatten(0, p.shape[:2]),
    "plane by plane in each": lambda p: p.mT.contiguous().mT,
    "every second": lambda p: p.repeat_interleave(2, -1)[..., ::2],
    "every second row": lambda p: p.repeat_interleave(2, 1)[:, ::2],
    "axes swapped": lambda p: p.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded": lambda p: p[:1, :1].expand_as(p),
}
"""Layouts of parameters `(rows, columns, n_params)`."""


@pytest.fixture
def poisoned():
    """Memory that an op allocates holds NaN until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def pull(function, inputs, grads):
    """Values, and gradients of the inputs, which keep their layout."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = function(*inputs)
    return *(x.detach() for x in out), *torch.autograd.grad(out, inputs, grads)


def plain(view):
    """The same numbers in a tensor without strides or lazy conjugation."""
    return view.resolve_conj().clone(memory_format=torch.contiguous_format)


def assert_close(left, right, tolerance):
    for some, other in zip(left, right, strict=True):
        torch.testing.assert_close(some, other, rtol=0, atol=tolerance)


def assert_equal(left, right):
    assert_close(left, right, 0.0)


def assert_compiles(function, inputs, grads):
    """Without graph breaks, to the numbers of eager calls; the first run is special: torch watches it in a mode."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = pull(function, inputs, grads)
    for _ in range(2):
        assert_equal(pull(compiled, inputs, grads), expected)


class Passing(TorchDispatchMode):
    """A mode that changes nothing."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def assert_no_second_derivatives(function, inputs):
    """They are not defined: an error, never a silent zero."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = sum(x.abs().sum() for x in function(*inputs))
    for gradient in torch.autograd.grad(out, inputs, create_graph=True):
        with pytest.raises(RuntimeError, match="has no derivative"):
            gradient.abs().sum().backward(retain_graph=True)


def assert_no_forward_mode(function, inputs):
    """With respect to each of the inputs, by torch.func.jvp and by dual numbers: an error, never a zero tangent."""
    for index, x in enumerate(inputs):

        def of_one(x, index=index):
            return function(*inputs[:index], x, *inputs[index + 1 :])

        with pytest.raises(NotImplementedError, match="jvp"):
            torch.func.jvp(of_one, (x,), (x,))
        with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
            of_one(torch.autograd.forward_ad.make_dual(x, x))


def assert_same_bits_on_avx2(program, lines):
    """A program prints so many lines, the same ones with AVX2, on CPUs that multiply and add in one rounding."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if not all(f" {flag} " in flags for flag in ("avx512f", "avx2", "fma")):
        pytest.skip("needs a CPU with AVX-512")

    def printed(*options):
        compiler = " ".join([os.environ.get("CXX", "c++").split()[0], *options])  # without options of its own
        started = [sys.executable, "-c", program]
        return subprocess.run(started, env={**os.environ, "CXX": compiler}, capture_output=True, text=True).stdout

    narrow = printed("-march=x86-64-v3")
    assert narrow == printed()
    assert len(narrow.splitlines()) == lines
