"""Speed of sweeps and trajectories against an earlier commit: both sides take turns, from Python to Python.

    git worktree add ../before 9387849
    OMP_NUM_THREADS=1 python experiments/sampling_speed/before.py ../before

A process for each side makes one cycle or trajectory at a time on request, and answers with its process time. The least
of several rounds counts.
"""

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
SWEEPS = [  # N, extents, beta, chains
    (3, (4,) * 4, 6.0, 1),
    (3, (8,) * 4, 6.0, 1),
    (3, (8,) * 4, 6.0, 8),
    (3, (16,) * 4, 6.0, 1),
    (2, (8,) * 4, 2.4, 1),
    (4, (6,) * 4, 10.8, 1),
    (4, (8,) * 4, 10.8, 1),
    (6, (8,) * 4, 24.5, 1),
    (1, (16,) * 3, 2.0, 1),
]
TRAJECTORIES = [(3, (8,) * 4, 6.0, 1), (3, (16,) * 4, 6.0, 1)]
CASES = [("sweeps", *case) for case in SWEEPS] + [("hmc", *case) for case in TRAJECTORIES]


def flops(kind: str, n: int, dim: int) -> float:
    """Operations of a link in products of matrices alone: those of its staples, with them, and of its steps."""
    product = {1: 8, 2: 32}.get(n, 8 * n**3)
    per_update = 3.5 * (dim - 1) + 1
    return product * (5 * per_update + 1.5 * (dim - 1) if kind == "sweeps" else 21 * 3 * (dim - 1) + 20)


def bytes_once(kind: str, n: int, real: int) -> int:
    """What a link takes in memory, read and written once by every sweep, or with its momentum by every kick."""
    size = (1 if n == 1 else 2 * n * n) * real
    momentum = (1 if n == 1 else n * n) * real
    return 5 * 2 * size if kind == "sweeps" else 21 * 2 * (size + momentum)


def worker(
    kind: str, n: int, extents: list[int], beta: float, chains: int, dtype: str, threads: int, wall: bool
) -> None:
    """Make a step for every line that comes in, and answer with the seconds that it took."""
    import torch

    from lattice_flows import SU, U1, actions, sampling

    torch.set_num_threads(threads)
    group, streams, precision = (
        U1() if n == 1 else SU(n),
        sampling.Streams(seed=1, chains=chains),
        getattr(torch, dtype),
    )
    try:
        from lattice_flows import GaugeField

        action = actions.Wilson(GaugeField(group, extents), beta)
        x = sampling.start(action.space, streams, "cold", dtype=precision)
    except ImportError:  # as it was before
        action = actions.Wilson(group, beta, dim=len(extents))
        x = sampling.start(group, tuple(extents), streams, "cold", dtype=precision)
    cycle = sampling.Cycle([sampling.HeatBath(action), (sampling.OverRelaxation(action), 4)])
    sampler = sampling.HMC(action, steps=10) if kind == "hmc" else cycle
    state = sampler.init(x)
    for _ in range(1 if math.prod(extents) > 10000 else 3):
        state, _ = cycle.step(state, streams)
    state, _ = sampler.step(state, streams)
    clock = time.perf_counter if wall else time.process_time
    for _ in sys.stdin:
        begin = clock()
        state, _ = sampler.step(state, streams)
        print(clock() - begin, flush=True)
    planes = math.comb(len(extents), 2) * math.prod(extents)
    print(float((-state.action / (beta * planes)).mean()), flush=True)


def start(root: Path, threads: int, case: tuple, dtype: str, wall: bool) -> subprocess.Popen:
    """The process of one side."""
    arguments = json.dumps([*case, dtype, threads, wall])
    folder = Path(tempfile.gettempdir()) / f"lattice_flows_before_{root.name}"
    environment = {**os.environ, "PYTHONPATH": str(root), "LATTICE_FLOWS_CACHE": str(folder)}
    return subprocess.Popen(
        [sys.executable, str(HERE), "--worker", arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment, cwd=root,
    )  # fmt: skip


def asked(process: subprocess.Popen) -> float:
    """The seconds of a step of one side."""
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def peaks() -> dict[str, float]:
    """Gflop/s of `peak.cpp` in both precisions, on one thread."""
    from lattice_flows.kernels import build

    def seconds(function, n):
        begin = time.process_time()
        function(n)
        return time.process_time() - begin

    speeds = {}
    for dtype, real in (("float32", "float"), ("float64", "double")):
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "peak.so"
            source, include = HERE.parent / "peak.cpp", build.KERNELS / "include"
            command = [*build.find_compiler(), *build.FLAGS, f"-DREAL={real}", f"-I{include}", source, "-o", library]
            subprocess.run(command, check=True)
            function = ctypes.CDLL(str(library)).peak
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_long]
        speeds[dtype] = function(10**7) / min(seconds(function, 10**7) for _ in range(5)) * 1e-9
    return speeds


def main():
    """Prints a row for every case and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument(
        "--threads", type=int, nargs="*", help="compare numbers of threads, in time on the wall, instead"
    )
    options = parser.parse_args()
    if options.worker:
        worker(*json.loads(options.worker))
        return
    sys.path.insert(0, str(HERE.parents[1] / "kernels"))
    import torch
    from bench import copy_bandwidth, machine

    torch.set_num_threads(1)
    speeds, copy = peaks(), copy_bandwidth()
    print(f"{machine()}; peak {speeds['float32']:.0f} / {speeds['float64']:.0f} Gflop/s, copies {copy:.0f} GB/s\n")
    sides = [(options.before.resolve(), 1), (ROOT, 1)] if options.before else [(ROOT, t) for t in options.threads]
    names = ["before", "now"] if options.before else [f"{threads} threads" for _, threads in sides]
    print(f"| | {names[0]}, ms | {names[1]}, ms | ratio | Gflop/s | of peak | of copies |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for case in CASES:
        for dtype in ("float32", "float64"):
            kind, n, extents, _, chains = case
            lattice = ".".join(map(str, extents)) if len(set(extents)) > 1 else f"{extents[0]}^{len(extents)}"
            what = "one heat bath, four over-relaxations" if kind == "sweeps" else "Omelyan trajectory, 10 steps"
            group, many = "U(1)" if n == 1 else f"SU({n})", f", {chains} chains" if chains > 1 else ""
            name = f"{group} {lattice}{many}, {dtype}, {what}"
            if options.only not in name:
                continue
            both = [start(root, threads, case, dtype, not options.before) for root, threads in sides]
            took = [[asked(process) for process in both] for _ in range(options.rounds)]
            plaquettes = [float(process.communicate()[0]) for process in both]
            assert abs(plaquettes[0] - plaquettes[1]) < 0.1, f"{name}: plaquettes {plaquettes}"
            old, new = (min(side) for side in zip(*took, strict=True))
            links = len(extents) * math.prod(extents) * chains
            rate = flops(kind, n, len(extents)) * links / new * 1e-9
            floor = bytes_once(kind, n, 4 if dtype == "float32" else 8) * links / (copy * 1e9)
            print(
                f"| {name} | {old * 1e3:.3g} | {new * 1e3:.3g} | {old / new:.1f} | {rate:.0f} | "
                f"{rate / speeds[dtype]:.0%} | {floor / new:.0%} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
