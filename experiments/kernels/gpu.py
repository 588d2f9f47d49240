"""Figures of a GPU: python experiments/kernels/gpu.py PART FILE, and PART is machine, ops, training or chains.

A part writes what it measured as JSON. `bash kernels/gpu_check.sh OUT` runs the tests and all parts.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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


def machine() -> dict:
    """What the figures are of."""
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    rows, compiler = overview.choices()
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "compiler": compiler,
        "implementations": {row.op: row.cuda for row in rows},
        "copy of 1 GiB, GB/s": copy_bandwidth(1 << 30 if DEVICE == "cuda" else 1 << 24) / 1e9,
    }


def cases(many: int) -> Iterator[Case]:
    """Ops with a kernel for GPUs."""
    generator = torch.Generator().manual_seed(0)
    few = min(many, 4096)
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


def ops() -> dict:
    """ns an element of values, and of values and gradients through autograd, and these as shares of a copy."""
    many = MANY if DEVICE == "cuda" else 1024
    found, bandwidth = {}, copy_bandwidth(1 << 30 if DEVICE == "cuda" else 1 << 24)
    for name, function, inputs in cases(many):
        leaves = [x.detach().requires_grad_() for x in inputs]

        def outputs(function=function, leaves=leaves):
            out = function(*leaves)
            return out if isinstance(out, tuple) else (out,)

        grads = [torch.ones_like(x) for x in outputs()]
        given, made = (sum(x.nbytes for x in tensors) for tensors in (inputs, grads))

        def forward(outputs=outputs):
            with torch.no_grad():
                return outputs()

        def both(outputs=outputs, leaves=leaves, grads=grads):
            return torch.autograd.grad(outputs(), leaves, grads)

        times, moved = (seconds(forward), seconds(both)), (given + made, 3 * given + 2 * made)
        found[name] = {
            part: {"ns": 1e9 * took / many, "of a copy": bytes_ / bandwidth / took}
            for part, took, bytes_ in zip(("forward", "both"), times, moved, strict=True)
        }
    return found


def training() -> dict:
    """Seconds a step of the demo's levels and of 48 spectral layers of SU(3) 16x16, and the ESS of both."""
    runs = {
        "demo": ["lattice_flows/runs/demo.toml"],
        "SU(3) 16x16, 48 layers, batch 1024": [
            "experiments/first_runs/su3_8x8.toml", "lattice.extents=[16,16]", "flow.layers=48", "training.batch=1024",
            "training.steps=30",
        ],
    }  # fmt: skip
    found = {}
    for name, arguments in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/run"
            command = [sys.executable, "-m", "lattice_flows", "train", *arguments, f"training.device={DEVICE}"]
            begin = time.perf_counter()
            result = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True)
            found[name] = {"seconds": time.perf_counter() - begin, "code": result.returncode}
            if result.returncode:
                found[name]["error"] = (result.stdout + result.stderr)[-2000:]
                continue
            steps = [row["seconds"] for row in read_metrics(Path(out) / "metrics.jsonl") if "seconds" in row]
            found[name]["median seconds a step"] = statistics.median(steps)
            found[name]["trained"] = json.loads((Path(out) / "trained.json").read_text())
    return found


def chains() -> dict:
    """ns a link of heat bath with four over-relaxations, on the device for many chains and on one core for one."""
    found = {}
    on_device = (CHAINS, torch.device("cuda")) if DEVICE == "cuda" else (4, torch.device("cpu"))
    action = actions.Wilson(GaugeField(SU(3), (SIDE,) * 4), beta=6.0)
    sampler = sampling.Cycle([sampling.HeatBath(action), (sampling.OverRelaxation(action), 4)])
    torch.set_num_threads(1)
    for label, (n, device) in {"device": on_device, "one core": (1, torch.device("cpu"))}.items():
        streams = sampling.Streams(seed=1, chains=n, device=device)
        state = sampler.init(sampling.start(action.space, streams, "cold", dtype=torch.complex64))

        def step(streams=streams, holder=[state]):  # noqa: B006
            holder[0], _ = sampler.step(holder[0], streams)
            return holder[0]

        for _ in range(3):
            state = step()
        took = seconds(step)
        for _ in range(20 if DEVICE == "cuda" or n == 1 else 1):
            state = step()
        plaquette = float((-state.action / (6.0 * 6 * SIDE**4)).mean())
        found[label] = {"chains": n, "seconds": took, "ns a link": 1e9 * took / (5 * n * 4 * SIDE**4)}
        found[label]["plaquette"] = plaquette
    found["cores"] = found["one core"]["ns a link"] / found["device"]["ns a link"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {part.__name__: part for part in (machine, ops, training, chains)}
    parser.add_argument("part", choices=parts)
    parser.add_argument("file", type=Path)
    wanted = parser.parse_args()
    found = parts[wanted.part]()
    wanted.file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
