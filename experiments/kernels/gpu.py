"""Figures of a GPU: python experiments/kernels/gpu.py PART FILE.

The parts are machine, compilation, chains, ops and training.

A part writes what it measured as JSON, after each measurement: a time limit cuts off only what was to come.
`bash kernels/gpu_check.sh OUT` runs the tests and all parts.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import samples
import torch
from torch import Tensor

from lattice_flows import SU, GaugeField, actions, kernels, sampling
from lattice_flows.io.metrics import read_metrics
from lattice_flows.kernels import overview
from lattice_flows.kernels.circular_spline import n_params as n_circular_params

ROOT = Path(__file__).resolve().parents[2]
BINS, MANY, CHAINS, SIDE = 8, 1 << 20, 1024, 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


Found = Iterator[tuple[str, Any]]
"""Names, and what was measured."""


class Case(NamedTuple):
    """An op on a batch: its function, and inputs of which the first axis counts."""

    name: str
    function: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], least: float = 0.2) -> float:
    """The median time of a call, the device idle before and after it; at least five calls and so many seconds."""
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < 5 or sum(times) < least:
        synchronize()
        begin = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def copy_bandwidth(size: int) -> float:
    """Bytes a second that a copy of so many bytes reads and writes."""
    source = torch.rand(size // 4, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source))


def machine() -> Found:
    """What the figures are of."""
    yield "device", torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    yield "torch", torch.__version__
    yield "cuda", torch.version.cuda
    rows, compiler = overview.choices()
    yield "compiler", compiler
    yield "implementations", {row.op: row.cuda for row in rows}
    yield "copy of 1 GiB, GB/s", copy_bandwidth(1 << 30 if DEVICE == "cuda" else 1 << 24) / 1e9


def cases(many: int) -> Iterator[Case]:
    """Ops with a kernel for GPUs."""
    generator = torch.Generator().manual_seed(0)
    few = min(many, 4096)  # tables of links of 16x16 want 512 of them
    side = 16
    table = samples.plaquettes(side).to(DEVICE)
    for dtype in (torch.complex64, torch.complex128):
        real, name = dtype.to_real(), str(dtype).removeprefix("torch.complex")
        single = {"64": "float32", "128": "float64"}[name]
        angle = math.pi * (2 * torch.rand(many, device=DEVICE, dtype=real) - 1)
        params = torch.randn(many, n_circular_params(BINS), device=DEVICE, dtype=real)
        yield Case(f"circular_spline U(1) {single}", lambda x, p: kernels.circular_spline(x, p, BINS), (angle, params))
        for n in (2, 3):
            w = samples.matrices("haar", n, few, generator, dtype).to(DEVICE).repeat(many // few, 1, 1)
            row = samples.parameters(n, BINS, 1, generator, real)
            params = torch.randn(many, row.shape[1], device=DEVICE, dtype=real)
            yield Case(f"spectral_flow SU({n}) {single}", lambda w, p: kernels.spectral_flow(w, p, BINS), (w, params))
            yield Case(f"algebra_exp SU({n}) {single}", kernels.algebra_exp, (kernels.algebra_exp(w - w.mH) - w,))
            fields = w.unflatten(0, (-1, 2 * side**2))
            yield Case(
                f"link_products SU({n}) {single}, 2 links",
                lambda w: kernels.link_products(w, table, (True, True, False, False)), (fields,),
            )  # fmt: skip


def outputs(function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a function gives, in a tuple."""
    out = function(*inputs)
    return out if isinstance(out, tuple) else (out,)


def _compile_case(index: int) -> tuple[str, float]:
    """The name of a case, and the seconds of its first values and gradients."""
    name, function, inputs = next(itertools.islice(cases(4096), index, None))
    begin, leaves = time.perf_counter(), [x.detach().requires_grad_() for x in inputs]
    out = outputs(function, leaves)
    torch.autograd.grad(out, leaves, [torch.ones_like(x) for x in out])
    synchronize()
    return name, time.perf_counter() - begin


def compilation() -> Found:
    """The seconds in which each op is compiled, all of them in processes of their own at once, and in all."""
    begin, count = time.perf_counter(), sum(1 for _ in cases(512))
    with ProcessPoolExecutor(min(count, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_compile_case, k) for k in range(count)]):
            yield done.result()
    yield "in all", time.perf_counter() - begin


def ops() -> Found:
    """ns an element of values, and of values and gradients through autograd, and these as shares of a copy."""
    many = MANY if DEVICE == "cuda" else 1024
    bandwidth = copy_bandwidth(1 << 30 if DEVICE == "cuda" else 1 << 24)
    for name, function, inputs in cases(many):
        leaves = [x.detach().requires_grad_() for x in inputs]

        grads = [torch.ones_like(x) for x in outputs(function, leaves)]
        given, made = (sum(x.nbytes for x in tensors) for tensors in (inputs, grads))

        def forward(function=function, leaves=leaves):
            with torch.no_grad():
                return function(*leaves)

        def both(function=function, leaves=leaves, grads=grads):
            return torch.autograd.grad(outputs(function, leaves), leaves, grads)

        times, moved = (seconds(forward), seconds(both)), (given + made, 3 * given + 2 * made)
        yield (
            name,
            {
                part: {"ns": 1e9 * took / many, "of a copy": bytes_ / bandwidth / took}
                for part, took, bytes_ in zip(("forward", "both"), times, moved, strict=True)
            },
        )


def training() -> Found:
    """Seconds a step of the demo's levels and of 48 spectral layers of SU(3) 16x16, and the ESS of both."""
    runs = {
        "demo": ["lattice_flows/runs/demo.toml"],
        "SU(3) 16x16, 48 layers, batch 1024": [
            "experiments/first_runs/su3_8x8.toml", "lattice.extents=[16,16]", "flow.layers=48", "training.batch=1024",
            "training.steps=30",
        ],
    }  # fmt: skip
    for name, arguments in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/run"
            command = [sys.executable, "-m", "lattice_flows", "train", *arguments, f"training.device={DEVICE}"]
            begin = time.perf_counter()
            result = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True)
            found: dict = {"seconds": time.perf_counter() - begin, "code": result.returncode}
            if result.returncode:
                yield name, {**found, "error": (result.stdout + result.stderr)[-2000:]}
                continue
            steps = [row["seconds"] for row in read_metrics(Path(out) / "metrics.jsonl") if "seconds" in row]
            found["median seconds a step"] = statistics.median(steps)
            found["trained"] = json.loads((Path(out) / "trained.json").read_text())
            yield name, found


def _sweeps(group: SU, beta: float, dtype: torch.dtype, chains: int, device: str) -> dict:
    """ns a link of sweeps of a group on 8^4, from thermalised chains, and the plaquette there."""
    action = actions.Wilson(GaugeField(group, (SIDE,) * 4), beta=beta)
    links, streams = chains * 4 * SIDE**4, sampling.Streams(seed=1, chains=chains, device=device)
    bath, over = sampling.HeatBath(action), sampling.OverRelaxation(action)
    cycle = sampling.Cycle([bath, (over, 4)])
    state, found = cycle.init(sampling.start(action.space, streams, "cold", dtype=dtype)), {"chains": chains}
    for _ in range(40):
        state, _ = cycle.step(state, streams)
    found["plaquette"] = float((-state.action / (beta * 6 * SIDE**4)).mean())
    ten = {"heat bath": [bath] * 10, "over-relaxation": [over] * 10, "cycle of 1 + 4": [bath, *[over] * 4] * 2}
    for name, samplers in ten.items():
        # ten sweeps in one call take what packing and the action cost once
        step = sampling.Cycle(samplers)
        found[f"{name}, ns a link"] = 1e9 * seconds(lambda step=step: step.step(state, streams)) / (10 * links)
    return found


def chains() -> Found:
    """ns a link of heat bath and over-relaxation, on the device for many chains and on one core for one."""
    torch.set_num_threads(1)
    many = CHAINS if DEVICE == "cuda" else 2
    for name, group, beta, dtype in (
        ("SU(3) float32", SU(3), 6.0, torch.complex64),
        ("SU(3) float64", SU(3), 6.0, torch.complex128),
        ("SU(2) float32", SU(2), 2.4, torch.complex64),
    ):
        found = {"device": _sweeps(group, beta, dtype, many, DEVICE)}
        found["one core"] = _sweeps(group, beta, dtype, 1, "cpu")
        for what in ("heat bath", "over-relaxation", "cycle of 1 + 4"):
            one, all_ = (found[where][f"{what}, ns a link"] for where in ("one core", "device"))
            found[f"{what}, cores"] = one / all_
        yield name, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {part.__name__: part for part in (machine, compilation, chains, ops, training)}
    parser.add_argument("part", choices=parts)
    parser.add_argument("file", type=Path)
    wanted = parser.parse_args()
    found = {}
    for name, value in parts[wanted.part]():
        found[name] = value
        wanted.file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {json.dumps(value)}", flush=True)


if __name__ == "__main__":
    main()
