"""Speed of sweeps and trajectories against an earlier commit: both sides take turns, from Python to Python.

    git worktree add ../before 9387849
    OMP_NUM_THREADS=1 python experiments/sampling_speed/before.py ../before

A process for each side makes one cycle or trajectory at a time on request, and answers with its process time. The least
of several rounds counts. A side whose heat bath refuses an action with rectangles makes sweeps of its own ops.
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
RECTANGLES = [(3, (8,) * 4, 2.6, 1)]
CASES = [("sweeps", *case) for case in SWEEPS] + [("hmc", *case) for case in TRAJECTORIES]
CASES += [(kind, *case) for kind in ("rectangles", "rectangles hmc") for case in RECTANGLES]
WORDS = {
    "sweeps": "one heat bath, four over-relaxations",
    "hmc": "Omelyan trajectory, 10 steps",
    "rectangles": "rectangles (Iwasaki), one heat bath, four over-relaxations",
    "rectangles hmc": "rectangles (Iwasaki), Omelyan trajectory, 10 steps",
}


def flops(kind: str, n: int, dim: int) -> float:
    """Operations of a link in products of matrices alone: those of its staples, with them, and of its steps."""
    product = {1: 8, 2: 32}.get(n, 8 * n**3)
    # of a sum of staples and an update; a kick of plaquettes makes no sums
    sums, action = (16 * (dim - 1) + 2, 4.0) if "rectangles" in kind else (3.5 * (dim - 1) + 1, 1.5)
    kick = sums if "rectangles" in kind else 3 * (dim - 1)
    return product * (21 * kick + 20 if "hmc" in kind else 5 * sums + action * (dim - 1))


def bytes_once(kind: str, n: int, real: int) -> int:
    """What a link takes in memory, read and written once by every sweep, or with its momentum by every kick."""
    size = (1 if n == 1 else 2 * n * n) * real
    momentum = (1 if n == 1 else n * n) * real
    return 21 * 2 * (size + momentum) if "hmc" in kind else 5 * 2 * size


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
    kind_of_action = actions.Iwasaki if "rectangles" in kind else actions.Wilson
    try:
        from lattice_flows import GaugeField

        action = kind_of_action(GaugeField(group, extents), beta)
        x = sampling.start(action.space, streams, "cold", dtype=precision)
    except ImportError:  # as it was before
        action = kind_of_action(group, beta, dim=len(extents))
        x = sampling.start(group, tuple(extents), streams, "cold", dtype=precision)
    try:
        cycle = sampling.Cycle([sampling.HeatBath(action), (sampling.OverRelaxation(action), 4)])
    except ValueError:  # InvalidInput: it knows plaquettes alone
        cycle = SweepsOfOps(action, tuple(extents))
    sampler = sampling.HMC(action, steps=10) if "hmc" in kind else cycle
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


class SweepsOfOps:
    """One heat bath and four over-relaxations for plaquettes and rectangles, from what commit 9387849 has.

    The links of a cell share no rectangle; extents are multiples of 4.
    """

    def __init__(self, action, extents: tuple[int, ...]):
        import torch
        from lattice_flows.fields.layout import coordinates
        from lattice_flows.fields.loops import lay, loops_through, rectangle

        from lattice_flows.sampling.base import stand_at

        self.action, self.init = action, lambda links: stand_at(links, action)
        self.cells, place = [], coordinates(extents)
        for mu in range(len(extents)):
            others = [nu for nu in range(len(extents)) if nu != mu]
            tables = []
            for sizes in ([(1, 1)], [(2, 1), (1, 2)]):
                loops = [rectangle(mu, r, nu, t) for nu in others for r, t in sizes]
                walks = [lay(turn, extents) for loop in loops for turn in loops_through(loop, mu)]
                tables.append((torch.stack([walk.links for walk in walks]), tuple(walk.forward[1:] for walk in walks)))
            colour = place[mu] % 2 * 4 + sum(place[nu] for nu in others) % 4
            for value in range(8):
                here = (colour == value).nonzero().squeeze(1)
                active = tables[0][0][0, 0, here]
                staples = [(links[:, 1:, here].contiguous(), forward) for links, forward in tables]
                self.cells.append((active, *staples))

    def step(self, state, streams):
        import torch

        from lattice_flows.kernels.heat_bath import heat_bath, over_relaxation
        from lattice_flows.kernels.link_sums import link_sums
        from lattice_flows.sampling.heatbath import ATTEMPTS

        with torch.no_grad():
            n, c1 = self.action.group.n, self.action.c1
            flat = state.links.clone().reshape(len(state.links), -1, n, n)
            numbers = streams.rand(flat.shape[1], n * (n - 1) // 2, ATTEMPTS, 4, dtype=flat.real.dtype)
            for sweep in range(5):
                done = 0
                for active, short, longer in self.cells:
                    links, size = flat.index_select(1, active), len(active)
                    sums = (1 - 8 * c1) * link_sums(flat, *short) + c1 * link_sums(flat, *longer)
                    if sweep == 0:
                        links = heat_bath(links, sums, self.action.beta / n, numbers[:, done : done + size])
                    else:
                        links = over_relaxation(links, sums)
                    flat.index_copy_(1, active, links)
                    done += size
            links = flat.reshape(state.links.shape)
            return type(state)(links, self.action(links), None, state.offered), None


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
            group, many = "U(1)" if n == 1 else f"SU({n})", f", {chains} chains" if chains > 1 else ""
            name = f"{group} {lattice}{many}, {dtype}, {WORDS[kind]}"
            if options.only not in name:
                continue
            both = [start(root, threads, case, dtype, not options.before) for root, threads in sides]
            took = [[asked(process) for process in both] for _ in range(options.rounds)]
            plaquettes = [float(process.communicate()[0]) for process in both]
            assert abs(plaquettes[0] - plaquettes[1]) < 0.1 * max(1, abs(plaquettes[0])), (
                f"{name}: plaquettes {plaquettes}"
            )
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
