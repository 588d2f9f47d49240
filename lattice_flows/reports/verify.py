"""A sample of an ensemble without checksums, compared with what the file says of it."""

import numpy as np
import torch

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile

SAMPLE, TOLERANCE = 32, 1e-3


def verify_sample(chains: ChainFile, action: Action) -> None:
    """Compare 32 configurations of a file without checksums with its actions, and links with their group.

    Raises:
        InvalidInput: a configuration is damaged.
    """
    if chains.checked or not chains.n_distinct:
        return
    rows = np.unique(np.linspace(0, chains.n_distinct - 1, SAMPLE).astype(int))
    chain, update = chains.places(rows)
    x, stated = chains.read(rows), torch.from_numpy(chains.series("action"))[update - 1, chain]
    found, volume = action(x).double(), action.space.lattice.volume
    # angles of U(1) are in the group anyway, and may be wrapped
    off = (action.space.restore(x) - x).abs().flatten(1).amax(1) if x.is_complex() else torch.zeros(len(x))
    wrong = ~((found - stated).abs() <= TOLERANCE * (found.abs() + volume)) | ~(off <= TOLERANCE)
    for k in wrong.nonzero().flatten().tolist():
        raise InvalidInput(
            f"damaged: the configuration in row {rows[k]} has the action {found[k]:.8g}, the file says {stated[k]:.8g}"
            f", and lies {off[k]:.1g} off its group: restore the file from a copy, or sample anew ({chains.path})"
        )
