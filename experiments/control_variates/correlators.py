"""Gains of correlators: space-like plaquettes of time slices of SU(3), with control variates on both sides.

    python experiments/control_variates/correlators.py --out experiments/control_variates/expected_correlators.json

The gain is the variance of the connected correlator without control variates over that with them, at each distance in
time, with the coefficients of one half of the chains used in the other.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.observables import slice_plaquettes, slice_zeros
from lattice_flows.statistics import connected, improved_slices

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from gains import error_of_ratio, measured  # noqa: E402

EXTENTS, CHAINS, APART, THERMAL = (8, 8, 8, 8), 2, 3, 60


def action_of(beta):
    """The Wilson action of SU(3)."""
    return Wilson(GaugeField(SU(3), EXTENTS), beta)


def gains_of(series, zeros):
    """The gains of one slice and at each distance, for lists of chains."""
    better = improved_slices(series, zeros).series
    one, other = (np.stack(connected(own)) for own in (series, better))
    gains = {
        f"t={t}": [float(one[..., t].var() / other[..., t].var()), error_of_ratio(one[..., t], other[..., t])]
        for t in range(1, one.shape[-1])
    }
    return {"one_slice": float(np.stack(series).var() / np.stack(better).var()), "gains": gains}


def run(beta, configurations):
    """The gains at one coupling, from chains of so many configurations that begin with Haar links."""
    action = action_of(beta)
    began = time.process_time()
    observables = slice_plaquettes(action.space), slice_zeros(action)
    series, found = map(list, measured(action, CHAINS, configurations, APART, THERMAL, *observables))
    seconds = round(time.process_time() - began, 1)
    return gains_of(series, found) | {"configurations": CHAINS * configurations, "cpu_seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--betas", type=float, nargs="+", default=[6.0, 5.7, 2.0])
    parser.add_argument("--configurations", type=int, default=500, help="of each chain")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for beta in arguments.betas:
        found[f"{beta}"] = run(beta, arguments.configurations)
        print(beta, json.dumps(found[f"{beta}"]), flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
