"""Local updates of stored configurations, which show what a flow hardly ever proposes."""

import hashlib
import math

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.io import ChainFile
from lattice_flows.observables import standard_observables
from lattice_flows.reports.observe import Session, observe
from lattice_flows.reports.words import label
from lattice_flows.sampling.metropolis import local_updates
from lattice_flows.statistics import estimate, pulls_of
from lattice_flows.streams import Streams

CONFIGURATIONS, SWEEPS = 4096, 4
FEWEST = 50


def drift(chains: ChainFile, action: Action, seed: int, session: Session | None = None) -> str:
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

    def differences(x: Tensor) -> Tensor:
        # the streams of a configuration are its own, so that measuring goes on where it was stopped
        digests = [hashlib.blake2b(one.numpy().tobytes(), digest_size=7).digest() for one in x]
        streams = Streams(seed, [int.from_bytes(digest, "little") for digest in digests])
        state = local.init(x)
        for _ in range(SWEEPS):
            state, _ = local.step(state, streams)
        return torch.stack([(one(state.x) - one(x)).double() for one in observables.values()], -1)

    name = f"drift_by_{SWEEPS}_sweeps_of_seed_{seed}"
    series = observe(thin, {name: differences}, session)[name]
    found = {name: estimate(list(series[..., i])) for i, name in enumerate(observables)}
    pulls, worst, _ = checked = pulls_of(found)
    return f"drift: local updates move {label(worst)} by {pulls[worst]:+.1f} errors" if worst and checked.wrong else ""
