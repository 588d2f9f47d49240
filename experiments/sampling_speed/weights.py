"""Cost of weights of single plaquettes: sweeps and trajectories with open boundaries or a twist against those without.

    OMP_NUM_THREADS=1 python experiments/sampling_speed/weights.py

One heat bath and four over-relaxations in a call, or a trajectory of five steps in a call. They take turns in one
process; process time, the least of several rounds; one thread.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Action, WeightedWilson, Wilson
from lattice_flows.kernels import link_sweeps, link_trajectories
from lattice_flows.kernels.link_sweeps import HEAT_BATH, OVER_RELAXATION

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))

from bench import machine

SPACES = [
    GaugeField(SU(2), (8,) * 4),
    GaugeField(SU(3), (8,) * 4),
    GaugeField(SU(4), (6,) * 4),
    GaugeField(U1(), (16,) * 3),
]
MOVES, STEP = [HEAT_BATH] + [OVER_RELAXATION] * 4, 0.1
KICKS = [STEP / 2, *[STEP] * 4, STEP / 2]


def actions(space: GaugeField) -> dict[str, Action]:
    """The uniform action, and those with weights, real and for other groups than SU(2) complex."""
    beta = 2.0 * space.group.n
    found = {"uniform": Wilson(space, beta), "open": WeightedWilson(space, beta, boundary="open")}
    return found if space.group.abelian else found | {"twisted": WeightedWilson(space, beta, twist=[(0, 1, 1)])}


def ratios(space: GaugeField, dtype: torch.dtype, rounds: int) -> str:
    links = space.prior(1, torch.Generator().manual_seed(1), dtype=dtype)
    extents, keys, calls = space.lattice.extents, torch.tensor([[1, 2]]), torch.tensor([0])

    def calls_of(action: Action) -> dict[str, Callable[[], object]]:
        weights = action.loop_weights()
        return {
            "sweeps": lambda: link_sweeps(links, extents, weights, MOVES, keys, calls),
            "trajectory": lambda: link_trajectories(links, extents, weights, KICKS, STEP, keys, calls),
        }

    timed = {(what, name): call for name, one in actions(space).items() for what, call in calls_of(one).items()}
    took = dict.fromkeys(timed, float("inf"))
    for _ in range(rounds):
        for key, call in timed.items():
            begin = time.process_time()
            call()
            took[key] = min(took[key], time.process_time() - begin)
    cells = [
        f"{took[what, name] / took[what, 'uniform']:.2f}" if (what, name) in took else "-"
        for what in ("sweeps", "trajectory")
        for name in ("open", "twisted")
    ]
    return f"| {space.group} {space.lattice} {str(dtype).removeprefix('torch.')} | {' | '.join(cells)} |"


def main() -> None:
    """Prints a row for every theory and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(machine())
    print("\n| time over that of uniform weights | sweeps, open | twisted | trajectory, open | twisted |")
    print("|---|--:|--:|--:|--:|")
    for space in SPACES:
        for dtype in (torch.float32, torch.float64):
            print(ratios(space, dtype, rounds), flush=True)


if __name__ == "__main__":
    main()
