"""Local updates of stored configurations, which show what a flow hardly ever proposes."""

import hashlib
import math

import numpy as np
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
COPIES = 16
"""The most copies of a configuration that are moved."""
FEWEST = 50


def drift(chains: ChainFile, action: Action, seed: int, session: Session | None = None) -> str:
    """Say that local updates move the mean of an observable; return an empty string where none is moved.

    Updates that leave the target invariant move no mean of chains in equilibrium. A chain of a flow alone knows nothing
    of configurations that the flow hardly ever proposes, but local updates of its states lead there. At most 4096
    configurations at equal distances are updated by four sweeps. Where a chain stays, a copy is moved for each of its
    measurements, up to 16: moved alike, the few that last hide a drift. The pulls are those of the mean differences, by
    the Gamma method. They miss what local updates do not change, such as a charge that is frozen.
    """
    local, stored = local_updates(action), chains.n_updates // chains.every
    if local is None or stored < FEWEST:
        return ""
    thin = chains.thinned(math.ceil(stored * chains.chains / CONFIGURATIONS))
    if thin.n_updates // thin.every < FEWEST:
        return ""
    observables = standard_observables(action.space)

    def differences(x: Tensor, counts: Tensor) -> Tensor:
        """Of the copies of each configuration, `(n, copies, observables)`; nan behind the last one."""
        times = counts.clamp(max=COPIES)
        streams = Streams(seed, [name for one, n in zip(x, times.tolist(), strict=True) for name in _names(one, n)])
        before = x.repeat_interleave(times, 0)
        state = local.init(before)
        for _ in range(SWEEPS):
            state, _ = local.step(state, streams)
        moved = torch.full((len(x), COPIES, len(observables)), math.nan, dtype=torch.float64)
        each = [(one(state.x) - one(before)).double() for one in observables.values()]
        moved[torch.arange(COPIES) < times[:, None]] = torch.stack(each, -1)
        return moved

    name = f"drift_by_{SWEEPS}_sweeps_of_seed_{seed}_every_{thin.every}"
    moved = observe(thin, {name: differences}, session, counted=True)[name]
    series = [_of_copies(own, thin.rows(chain)[1]) for chain, own in enumerate(moved)]
    found = {name: estimate([own[:, i] for own in series]) for i, name in enumerate(observables)}
    pulls, worst, _ = checked = pulls_of(found)
    return f"drift: local updates move {label(worst)} by {pulls[worst]:+.1f} errors" if worst and checked.wrong else ""


def _names(x: Tensor, copies: int) -> list[int]:
    """The streams of copies of a configuration, its own, so that measuring goes on where it was stopped."""
    digest = hashlib.blake2b(x.numpy().tobytes(), digest_size=7).digest()
    return [
        int.from_bytes(hashlib.blake2b(digest, digest_size=7, salt=bytes([k])).digest(), "little")
        for k in range(copies)
    ]


def _of_copies(moved: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The series `(n, observables)` of a chain whose states last so long: its measurements take copies in turn."""
    visits = np.concatenate([np.arange(count) for count in counts])
    copies = np.isfinite(moved[..., 0]).sum(-1)  # fewer than asked for where a chain went on with its last state
    return moved[np.arange(len(moved)), visits % copies]
