"""Gains of correlators of smeared plaquettes of time slices of SU(3), with control variates on both sides.

    python experiments/control_variates/smeared.py --out experiments/control_variates/expected_smeared.json

As `correlators.py`, after stout smearing of links in space with rho = 0.1.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from lattice_flows.observables import slice_plaquettes, slice_zeros, smeared_slice_zeros, stout_smear

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from correlators import APART, CHAINS, THERMAL, action_of, gains_of  # noqa: E402
from gains import measured  # noqa: E402

RHO, STEPS = 0.1, (2, 5, 10)


def run(beta, configurations, steps=STEPS):
    """The gains at one coupling after each number of steps."""
    action = action_of(beta)
    every = sorted({0, *steps, *(2 * n for n in steps)})

    def plaquettes(x):
        own = slice_plaquettes(action.space)
        return torch.stack([own(stout_smear(x, action.space, RHO, n, range(3))) for n in steps], -1)

    observables = plaquettes, slice_zeros(action), smeared_slice_zeros(action, RHO, every)
    began = time.process_time()
    series, thin, smeared = measured(action, CHAINS, configurations, APART, THERMAL, *observables)
    seconds = time.process_time() - began
    found = {}
    for k, n in enumerate(steps):
        own = smeared[..., [every.index(m) for m in (0, n, 2 * n)]]
        found[f"{n}"] = gains_of(list(series[..., k]), list(np.concatenate([thin, own], -1)))
    return {"steps": found, "configurations": CHAINS * configurations, "cpu_seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--configurations", type=int, default=500, help="of each chain")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = run(6.0, arguments.configurations)
    print(json.dumps(found), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
