"""Speed of a training step of SU(3) in four dimensions against an earlier commit, in both precisions, on one thread.

    git worktree add ../before 9387849
    OMP_NUM_THREADS=1 python experiments/sampling_speed/training.py ../before

A process for each commit and precision: all four take turns, and answer with their process time.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

from before import asked, worker_of

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
EXTENTS, LAYERS, BATCH, BETA = (4,) * 4, 8, 16, 1.0


def worker(dtype: str) -> None:
    """Make a step for every line that comes in, and answer with the seconds that it took."""
    import torch

    from lattice_flows import SU, actions, flows

    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    group, generator = SU(3), torch.Generator().manual_seed(0)
    flow = flows.checkerboard(group, EXTENTS, layers=LAYERS, seed=0, hidden=(16,)).to(getattr(torch, dtype))
    try:
        from lattice_flows import GaugeField

        action, sample, transform = actions.Wilson(GaugeField(group, EXTENTS), BETA), flow.sample_prior, flow.transform
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, fused=True)
    except ImportError:  # as it was before
        action, sample, transform = actions.Wilson(group, BETA), flow.prior.sample, flow.push
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        drawn = transform(sample(BATCH, generator))
        loss = (drawn.log_q + action(drawn.links)).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    step()
    for _ in sys.stdin:
        begin = time.process_time()
        loss = step()
        print(time.process_time() - begin, flush=True)
    print(loss, flush=True)


def main():
    """Prints a row for every commit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    roots = {"before": options.before.resolve(), "now": ROOT} if options.before else {"now": ROOT}
    processes = {(name, d): worker_of(HERE, root, d) for name, root in roots.items() for d in ("float32", "float64")}
    took = [[asked(process) for process in processes.values()] for _ in range(options.rounds)]
    losses = {key: float(process.communicate()[0]) for key, process in processes.items()}
    assert all(map(math.isfinite, losses.values())), f"the losses are {losses}"
    least = dict(zip(processes, map(min, zip(*took, strict=True)), strict=True))
    median = dict(zip(processes, map(statistics.median, zip(*took, strict=True)), strict=True))
    print("| a training step, ms: least (median) | float32 | float64 | float64 / float32 |\n|---|--:|--:|--:|")
    for name in roots:
        single, double = least[name, "float32"], least[name, "float64"]
        cells = [f"{least[name, d] * 1e3:.0f} ({median[name, d] * 1e3:.0f})" for d in ("float32", "float64")]
        print(f"| {name} | {cells[0]} | {cells[1]} | {double / single:.2f} |")
    if options.before:
        ratios = [f"{least['before', d] / least['now', d]:.2f}" for d in ("float32", "float64")]
        print(f"| ratio | {ratios[0]} | {ratios[1]} | |")


if __name__ == "__main__":
    main()
