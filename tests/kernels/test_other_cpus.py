"""Kernels for CPUs of less than this one: every folder's C++ is compiled for them, and run where this one can."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lattice_flows.kernels import build

CPUS = {"AVX2": "x86-64-v3", "SSE2": "x86-64"}
WORKER = Path(__file__).with_name("other_cpu.py")
CAPABLE = {"SSE2": {"DEFAULT", "NO AVX", "AVX2", "AVX512"}, "AVX2": {"AVX2", "AVX512"}}
"""Those that torch tells apart."""

try:
    COMPILER = build.find_compiler()
except build.Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)
if "x86-64" not in subprocess.run([*COMPILER, "-dumpmachine"], capture_output=True, text=True).stdout.replace("_", "-"):
    pytest.skip("not a CPU of this family", allow_module_level=True)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """All at once, each with all its kernels to compile, where they are not in the cache."""
    started = {}
    for cpu, architecture in CPUS.items():
        words = [sys.executable, WORKER, str(torch.backends.cpu.get_cpu_capability() in CAPABLE[cpu])]
        compiler = shlex.join([*COMPILER, f"-march={architecture}", "-O1"])  # half of the compiler's time
        environment = {**os.environ, "CXX": compiler, "OMP_NUM_THREADS": "1"}
        started[cpu] = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_compiles_and_agrees_with_its_reference(cpu, workers):
    """In values and gradients, single precision at N = 2 and double at N = 3."""
    out, error = workers[cpu].communicate(timeout=900)
    assert (workers[cpu].returncode, error) == (0, b""), error.decode()
    compiled, wrong = json.loads(out)
    assert set(compiled) == {path.parent.name for path in build.KERNELS.glob("*/cpu.cpp")}
    assert wrong == {}
