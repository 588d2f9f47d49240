"""Whole flows with and without kernels: a training step, and the memory of a pass forward and backward.

Each is measured in a process of its own, by a script: kernels know nothing of flows.
"""

import json
import os
import subprocess
import sys

# A path-gradient step, the least of several: argv holds overrides of the config, which are empty for the demo's flow.
STEP = """
import dataclasses, importlib.resources, json, sys, time
import torch
from lattice_flows import config, models, training
torch.set_num_threads(1)
steps, *overrides = json.loads(sys.argv[1])
path = importlib.resources.files("lattice_flows.runs") / "demo.toml"
settings = config.load(path, ["training.estimator=path", f"training.steps={steps + 1}", *overrides])
settings, flow, action = models.build_run(settings, "benchmark")
state = training.TrainingState.start(flow, settings.training)
took, failed = [], False
start = time.process_time()
for record in training.train(state, action, settings.training):
    took.append(time.process_time() - start)
    failed |= record.skipped  # a step that stops at a failure is quick
    start = time.process_time()
print("nan" if failed else min(took[1:]))
"""

# Growth of the resident memory, in MiB, after a small pass has compiled and loaded what there is. Its peak is read from
# /proc because getrusage remembers that of the process which started this one.
MEMORY = """
import json, re, sys
import torch
from lattice_flows import SU, flows
torch.set_num_threads(1)
side, layers, batch = json.loads(sys.argv[1])
flow = flows.stripes(SU(3), (side, side), layers=layers, seed=0)
def peak(batch):
    links, log_q = flow.transform(flow.sample_prior(batch, torch.Generator().manual_seed(0)))
    (log_q.sum() + links.real.sum()).backward()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak(1)
print((peak(batch) - before) / 1024)
"""


def measure(script: str, arguments: list, kernels: bool) -> float:
    """What a script prints, run with the compiled kernels or with the references."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LATTICE_FLOWS_KERNELS", None)
    if not kernels:
        environment["LATTICE_FLOWS_KERNELS"] = "reference"
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def table(quick: bool) -> str:
    """A Markdown table: with kernels, with references, and the ratio."""
    side, layers, batch = (4, 2, 8) if quick else (16, 48, 32)
    su3 = [
        "lattice.group=SU(3)", f"lattice.extents=[{side}, {side}]", "action.beta=6.0",
        "flow.architecture=stripes", f"flow.layers={layers}", "flow.hidden=[16, 16]", f"training.batch={batch}",
    ]  # fmt: skip
    name = f"SU(3) {side}x{side}, {layers} layers"
    cases: list[tuple[str, str, list, str, float]] = [
        ("the demo's flow, U(1) 8x8: training step, batch 256", STEP, [2 if quick else 10], "ms", 1e3),
        (f"{name}: training step, batch {batch}", STEP, [1 if quick else 3, *su3], "ms", 1e3),
        (f"{name}: memory, batch {4 * batch}", MEMORY, [side, layers, 4 * batch], "MiB", 1),
    ]
    lines = ["", "| flow | kernels | references | ratio |", "|---|--:|--:|--:|"]
    for case, script, arguments, unit, scale in cases:
        ours, theirs = (scale * measure(script, arguments, kernels) for kernels in (True, False))
        lines.append(f"| {case} | {ours:.0f} {unit} | {theirs:.0f} {unit} | {theirs / max(ours, 1e-9):.1f} |")
    return "\n".join(lines)
