"""Local updates of stored configurations, which show what a flow hardly ever proposes."""

import math

import numpy as np
import torch
from scipy.special import ndtri

from lattice_flows.actions import Action
from lattice_flows.io import ChainFile
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import label
from lattice_flows.sampling.metropolis import local_updates
from lattice_flows.statistics import estimate
from lattice_flows.streams import Streams

CONFIGURATIONS, SWEEPS = 4096, 4
FEWEST = 50
CHANCE = 0.0027
"""The probability of three errors, here that of any observable of a chain in equilibrium."""
_PART = 2**22  # bytes of configurations that are updated together


def drift(chains: ChainFile, action: Action, seed: int) -> str:
    """Say that local updates move the mean of an observable; return an empty string where none is moved.

    Updates that leave the target invariant move no mean of chains in equilibrium. A chain of a flow alone knows nothing
    of configurations that the flow hardly ever proposes, but local updates of its states lead there. At most 4096
    configurations at equal distances are updated by four sweeps. The pulls are those of the mean differences, by the
    Gamma method. They miss what local updates do not change, such as a charge that is frozen.
    """
    local, stored = local_updates(action), chains.n_updates // chains.every
    if local is None or stored < FEWEST:
        return ""
    thin = chains.thinned(math.ceil(stored * chains.chains / CONFIGURATIONS))
    if thin.n_updates // thin.every < FEWEST:
        return ""
    observables = standard_observables(action.space)
    differences: dict[str, list[np.ndarray]] = {name: [] for name in observables}
    for chain in range(chains.chains):
        order = np.repeat(*thin.rows(chain))
        own: dict[str, list[torch.Tensor]] = {name: [] for name in observables}
        for number, part in enumerate(np.array_split(order, math.ceil(len(order) * thin.row_bytes / _PART))):
            rows, places = np.unique(part, return_inverse=True)
            x = thin.read(rows)[torch.from_numpy(places)]
            streams = Streams(seed, [chain]).child(0, "drift", number).spread(len(x))
            state = local.init(x)
            for _ in range(SWEEPS):
                state, _ = local.step(state, streams)
            for name, observable in observables.items():
                own[name].append((observable(state.x) - observable(x)).double())
        for name, parts in own.items():
            differences[name].append(torch.cat(parts).numpy())
    found = {name: estimate(values) for name, values in differences.items()}
    pulls = {name: own.value / own.error for name, own in found.items() if own.error > 0}
    if not pulls:
        return ""
    name = max(pulls, key=lambda name: abs(pulls[name]))
    if abs(pulls[name]) < -ndtri(CHANCE / 2 / len(pulls)):
        return ""
    return f"drift: local updates move {label(name)} by {pulls[name]:+.1f} errors"
