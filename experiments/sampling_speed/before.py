"""Speed of sweeps, trajectories and flows against an earlier commit: both sides take turns, from Python to Python.

    git worktree add ../before 9387849
    OMP_NUM_THREADS=1 python experiments/sampling_speed/before.py ../before

A process for each side makes cycles, trajectories or flows on request, for a tenth of a second or one of them, and
answers with the process time of each. The least of several rounds counts. A side whose heat bath refuses an action with
rectangles makes sweeps of its own ops. The links of both flows are compared with a solution in small steps.
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
from collections.abc import Callable
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
FLOWS = [(3, (8,) * 4, 6.0, 1), (3, (16,) * 4, 6.0, 1)]
KINDS = {
    "sweeps": (SWEEPS, "one heat bath, four over-relaxations"),
    "hmc": (TRAJECTORIES, "Omelyan trajectory, 10 steps"),
    "rectangles": (RECTANGLES, "rectangles (Iwasaki), one heat bath, four over-relaxations"),
    "rectangles hmc": (RECTANGLES, "rectangles (Iwasaki), Omelyan trajectory, 10 steps"),
    "flow": (FLOWS, "Wilson flow to t = 3"),
}
CASES = [(kind, *case) for kind, (cases, _) in KINDS.items() for case in cases]
LEAST = 0.1
"""Seconds of steps at a time, one after the other as in a chain."""
FLOW_TIME, OLD_STEP = 3.0, 0.02
TOLERANCE, FINE_STEP = 5e-5, 0.01  # for errors that are no larger; the fine step is one of fourth order


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
    kind: str, n: int, extents: list[int], beta: float, chains: int, dtype: str, threads: int, wall: bool, file: str
) -> None:
    """Make steps for every line that comes in, and answer with the seconds that one took.

    The links of a flow are in the file, and in the end those after it.
    """
    import torch

    torch.set_num_threads(threads)
    step, finish = (
        flow_steps(n, extents, file) if kind == "flow" else chain_steps(kind, n, extents, beta, chains, dtype)
    )
    clock = time.perf_counter if wall else time.process_time
    for _ in sys.stdin:
        begin, steps, took = clock(), 0, 0.0
        while took < LEAST:  # a lone short step finds the caches cold, which those of a chain do not
            step()
            steps, took = steps + 1, clock() - begin
        print(took / steps, flush=True)
    print(finish(), flush=True)


def flow_steps(n: int, extents: list[int], file: str) -> tuple[Callable[[], None], Callable[[], float]]:
    """A function that flows the links of a file, and one that writes the result there."""
    import torch

    from lattice_flows import SU, U1

    group, links, flowed = U1() if n == 1 else SU(n), torch.load(file), []
    try:
        from lattice_flows import GaugeField
        from lattice_flows.observables import wilson_flow

        space = GaugeField(group, extents)

        def step():
            flowed[:] = [wilson_flow(links, space, FLOW_TIME, tolerance=TOLERANCE)]
    except ImportError:  # as it was before
        from lattice_flows.measurement import gradient_flow

        def step():
            flowed[:] = [gradient_flow(links, group, FLOW_TIME, OLD_STEP)]

    def finish():
        torch.save(flowed[0], file)
        return 0.0

    return step, finish


def chain_steps(
    kind: str, n: int, extents: list[int], beta: float, chains: int, dtype: str
) -> tuple[Callable[[], None], Callable[[], float]]:
    """A function that makes a step of chains, and one that gives their plaquette."""
    import torch

    from lattice_flows import SU, U1, actions, sampling

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

    def step():
        nonlocal state
        state, _ = sampler.step(state, streams)

    planes = math.comb(len(extents), 2) * math.prod(extents)
    return step, lambda: float((-state.action / (beta * planes)).mean())


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


def thermal(n: int, extents: tuple[int, ...], beta: float, dtype: str):
    """Links of the present package after 20 cycles from a cold start."""
    import torch

    from lattice_flows import SU, U1, GaugeField, actions, sampling

    action = actions.Wilson(GaugeField(U1() if n == 1 else SU(n), extents), beta)
    streams, cycle = sampling.Streams(seed=1, chains=1), sampling.Cycle([sampling.HeatBath(action)])
    state = cycle.init(sampling.start(action.space, streams, "cold", dtype=getattr(torch, dtype)))
    for _ in range(20):
        state, _ = cycle.step(state, streams)
    return action.space, state.x


def errors(space, links, ends) -> str:
    """The largest errors of links, in Frobenius' norm / N^2, and of the clover's density, relative, of both ends."""
    import torch

    from lattice_flows.observables import action_density, wilson_flow

    double = links.to(torch.promote_types(links.dtype, torch.float64))
    exact, density = wilson_flow(double, space, FLOW_TIME, FINE_STEP, tolerance=math.inf), action_density(space)
    differences = [(end - exact).abs().square().sum((-2, -1)).max().sqrt() / space.group.n**2 for end in ends]
    relative = [(density(end.to(exact.dtype)) / density(exact) - 1).abs().max() for end in ends]
    words = (" / ".join(f"{float(value):.1e}" for value in values) for values in (differences, relative))
    return "errors of links {}, of E {}".format(*words)


def start(root: Path, threads: int, case: tuple, dtype: str, wall: bool, file: Path) -> subprocess.Popen:
    """The process of one side."""
    return worker_of(HERE, root, json.dumps([*case, dtype, threads, wall, str(file)]))


def worker_of(script: Path, root: Path, arguments: str) -> subprocess.Popen:
    """The process of a script's worker that imports the package of a checkout, with kernels of its own."""
    folder = Path(tempfile.gettempdir()) / f"lattice_flows_before_{root.name}"
    environment = {**os.environ, "PYTHONPATH": str(root), "LATTICE_FLOWS_CACHE": str(folder)}
    return subprocess.Popen(
        [sys.executable, str(script), "--worker", arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
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
            kind, n, extents, beta, chains = case
            lattice = ".".join(map(str, extents)) if len(set(extents)) > 1 else f"{extents[0]}^{len(extents)}"
            group, many = "U(1)" if n == 1 else f"SU({n})", f", {chains} chains" if chains > 1 else ""
            name = f"{group} {lattice}{many}, {dtype}, {KINDS[kind][1]}"
            if options.only not in name:
                continue
            with tempfile.TemporaryDirectory() as folder:
                files = [Path(folder) / f"{side}.pt" for side in range(len(sides))]
                if kind == "flow":
                    space, links = thermal(n, extents, beta, dtype)
                    for file in files:
                        torch.save(links, file)
                both = [
                    start(root, threads, case, dtype, not options.before, file)
                    for (root, threads), file in zip(sides, files, strict=True)
                ]
                took = [[asked(process) for process in both] for _ in range(options.rounds)]
                plaquettes = [float(process.communicate()[0]) for process in both]
                if kind == "flow":
                    name += f", {errors(space, links, [torch.load(file) for file in files])}"
            assert abs(plaquettes[0] - plaquettes[1]) < 0.1 * max(1, abs(plaquettes[0])), (
                f"{name}: plaquettes {plaquettes}"
            )
            old, new = (min(side) for side in zip(*took, strict=True))
            row = f"| {name} | {old * 1e3:.3g} | {new * 1e3:.3g} | {old / new:.1f} |"
            if kind == "flow":  # the number of steps is its own choice
                print(row, "- | - | - |", flush=True)
                continue
            size = len(extents) * math.prod(extents) * chains
            rate = flops(kind, n, len(extents)) * size / new * 1e-9
            floor = bytes_once(kind, n, 4 if dtype == "float32" else 8) * size / (copy * 1e9)
            print(row, f"{rate:.0f} | {rate / speeds[dtype]:.0%} | {floor / new:.0%} |", flush=True)


if __name__ == "__main__":
    main()
