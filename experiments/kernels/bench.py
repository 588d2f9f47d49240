"""Speed of the CPU kernels: python experiments/kernels/bench.py [op ...] [--threads] [--flows] [--quick].

The tests of an op come first: no speed is printed for one that fails them. Times are the least of
several, of process time on one thread; a kernel and what it is compared with take turns, so that ratios hold.
"""

import argparse
import contextlib
import functools
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from lattice_flows.kernels import build, overview

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench_flows  # noqa: E402
import bench_ops  # noqa: E402
from bench_ops import FULL, OPS, QUICK, Comparison, Effort, Subject  # noqa: E402

TESTS = {
    "spectral_flow": ("test_spectral_flow.py",),
    "circular_spline": ("test_circular_spline.py",),
    "spectral_power": ("test_spectral_power.py", "test_spectral_power_op.py"),
    "unitary_eig": ("test_unitary_eig.py", "test_spectrum.py"),
    "algebra_exp": ("test_algebra_exp.py",),
    "link_products": ("test_link_products.py",),
    "link_sums": ("test_link_sums.py",),
    "heat_bath": ("test_heat_bath.py",),
    "periodic_conv": ("test_periodic_conv.py",),
}
HEADER = """
| {op} | against | kernel | | other | | ratio | | of a copy | |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
| | | fwd | fwd+bwd | fwd | fwd+bwd | fwd | fwd+bwd | fwd | fwd+bwd |"""


def gate(op: str) -> str:
    """Why no speed of an op may be printed: its tests are missing or fail. Empty when they pass."""
    root = HERE.parents[1]
    files = [root / "tests" / "kernels" / name for name in TESTS[op]]
    if missing := [file.name for file in files if not file.exists()]:
        return f"{op}: no speed without its tests: {', '.join(missing)} is not there"
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=root, capture_output=True, text=True)
    summary = next(reversed(result.stdout.split("\n")[:-1]), "pytest did not run")
    return f"{op}: no speed while its tests fail: {summary}" if result.returncode else ""


def _outputs(subject: Subject) -> tuple[Tensor, ...]:
    result = subject.function(*subject.inputs)
    return result if isinstance(result, tuple) else (result,)


def _allowed(subject: Subject) -> contextlib.AbstractContextManager:
    """Around both passes of a rival that may not use the compiled kernels, they are switched off."""
    return contextlib.nullcontext() if subject.compiled else mock.patch.object(build, "native", return_value=None)


def _calls(subject: Subject) -> tuple[Callable[[], object], ...]:
    """Forward, and where there is a derivative forward and backward."""
    leaves = [x for x in subject.inputs if x.requires_grad]

    def forward():
        with _allowed(subject), torch.no_grad():
            return _outputs(subject)

    if subject.both:
        return forward, functools.partial(subject.both, *subject.inputs)
    grads = [torch.ones_like(y) for y in forward()]

    def both():
        with _allowed(subject):
            return torch.autograd.grad(_outputs(subject), leaves, grads)

    return (forward, both) if subject.differentiable else (forward,)


def measure(subjects: dict[str, Subject], effort: Effort) -> dict[str, list[float]]:
    """ns per element, of forward and of forward and backward, of subjects that take turns."""
    calls = {(name, part): call for name, subject in subjects.items() for part, call in enumerate(_calls(subject))}
    best = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        call()
    for _ in range(effort.rounds):
        for key, call in calls.items():
            end = time.process_time() + effort.seconds
            while True:
                start = time.process_time()
                call()
                stop = time.process_time()
                best[key] = min(best[key], stop - start)
                if stop >= end:
                    break
    return {
        name: [1e9 * best[name, part] / subject.size for part in range(1 + subject.differentiable)]
        for name, subject in subjects.items()
    }


def _moved(subject: Subject) -> tuple[float, float]:
    """Bytes per element that have to move: what comes in and goes out; and with backward, that and their gradients."""
    with torch.no_grad():
        outputs = _outputs(subject)
    given, made = (sum(x.nbytes for x in tensors) / subject.size for tensors in (subject.inputs, outputs))
    return given + made, 3 * given + 2 * made


def copy_bandwidth() -> float:
    """Bytes a ns that a large copy reads and writes."""
    source = torch.zeros(1 << 24)
    target = torch.empty_like(source)
    (took,) = measure({"": Subject(lambda x: target.copy_(x), (source,), 2 * source.nbytes, False)}, FULL)[""]
    return 1 / took


def machine() -> str:
    """What the numbers were measured on, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
        facts = {key: value.strip(": \t") for key, value in facts.items()}
    except OSError:
        facts = {}
    flags = facts.get("flags", "").split()
    simd = next(
        (name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX")) if flag in flags), ""
    )
    compiler = overview.choices()[1] or "no compiler"
    name = facts.get("model name", platform.processor() or platform.machine())
    return f"{name} ({simd or platform.machine()}), {os.cpu_count()} cores, {compiler}, torch {torch.__version__}"


def rows(comparison: Comparison, effort: Effort, bandwidth: float) -> Iterator[str]:
    """A line of the table for every rival."""
    rivals = {name: rival for name, rival in comparison.rivals.items() if isinstance(rival, Subject)}
    times = measure({"": comparison.kernel, **rivals}, effort)
    own = times.pop("")
    floors = [bytes_ / bandwidth / took for bytes_, took in zip(_moved(comparison.kernel), own, strict=False)]

    def cells(values: Sequence[float], form: Callable[[float], str]) -> list[str]:
        return [form(value) for value in values] + ["-"] * (2 - len(values))

    for name, rival in comparison.rivals.items():
        if isinstance(rival, str):
            yield f"| {comparison.case} | {name}: {rival} |" + " |" * 8
            continue
        ratios = [theirs / ours for theirs, ours in zip(times[name], own, strict=True)]
        words = [
            comparison.case, name, *cells(own, _ns), *cells(times[name], _ns),
            *cells(ratios, "{:.1f}".format), *cells(floors, "{:.0%}".format),
        ]  # fmt: skip
        yield "| " + " | ".join(words) + " |"


def _ns(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def threads(effort: Effort) -> str:
    """The gain of a second thread, by the clock on the wall: only an idle machine shows it."""
    kernel = bench_ops.huge_su3(effort)
    _, call = _calls(kernel)
    took = {1: math.inf, 2: math.inf}
    for _ in range(4 * effort.rounds):
        for count in took:
            torch.set_num_threads(count)
            start = time.perf_counter()
            call()
            took[count] = min(took[count], time.perf_counter() - start)
    torch.set_num_threads(1)
    per_element = [1e9 * seconds / kernel.size for seconds in took.values()]
    return (
        f"spectral_flow SU(3) complex64, M = {kernel.size}, fwd+bwd: {per_element[0]:.0f} ns on one thread, "
        f"{per_element[1]:.0f} ns on two, ratio {took[1] / took[2]:.2f}; load average {os.getloadavg()[0]:.2f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; returns the exit code: 1 where an op has no tests or fails them."""
    parser = argparse.ArgumentParser(prog="python experiments/kernels/bench.py", description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="op", help=f"some of {', '.join(OPS)} (default: all)")
    parser.add_argument("--threads", action="store_true", help="also two threads against one")
    parser.add_argument("--flows", action="store_true", help="also training steps and memory of whole flows")
    parser.add_argument("--quick", action="store_true", help="small and rough, to see that it works")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.ops) - set(OPS):
        parser.error(f"unknown op {', '.join(sorted(unknown))}; there are {', '.join(OPS)}")
    effort = QUICK if arguments.quick else FULL
    torch.set_num_threads(1)
    green: list[str] = []
    bandwidth = 0.0
    for op in arguments.ops or OPS:
        if obstacle := gate(op):
            print(obstacle, file=sys.stderr)
            continue
        if not green:
            bandwidth = copy_bandwidth()
            print(f"{machine()}, copy {bandwidth:.1f} GB/s, load average {os.getloadavg()[0]:.2f}\n")
            print("ns per element; of a copy: the time to copy the bytes that must move, as a share of the kernel's")
        green.append(op)
        print(HEADER.format(op=op), flush=True)
        generator = torch.Generator().manual_seed(0)
        for comparison in OPS[op](effort, generator):
            for row in rows(comparison, effort, bandwidth):
                print(row, flush=True)
    if arguments.threads and "spectral_flow" in green:
        print(f"\n{threads(effort)}", flush=True)
    if arguments.flows and green:
        print(bench_flows.table(quick=arguments.quick))
    return 0 if len(green) == len(arguments.ops or OPS) else 1


if __name__ == "__main__":
    sys.exit(main())
