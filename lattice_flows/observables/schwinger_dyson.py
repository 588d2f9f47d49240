"""The identity of Schwinger and Dyson: quantities whose mean is zero in the ensemble of an action."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.observables.base import Observable
from lattice_flows.operators import LoopProducts


def schwinger_dyson(action: Action, operators: Sequence[LoopProducts]) -> Observable:
    """Lap W - dS.dW `(*batch, n_operators)`, whose mean is zero where configurations have the density exp(-S).

    They are control variates for the mean of any observable, and test the ensemble.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.operators import next_to_leading
        >>> action = Wilson(GaugeField(SU(2), (4, 4)), beta=1e-6)  # Haar's measure, nearly
        >>> zeros = schwinger_dyson(action, next_to_leading(SU(2), 2)[:1])
        >>> x = action.space.prior(1000, torch.Generator().manual_seed(0))
        >>> bool(zeros(x).mean().abs() < 4 * zeros(x).std() / 1000**0.5)
        True
    """

    def measure(x: Tensor) -> Tensor:
        force = action.force(x)
        zeros = [own.laplacian(x) - action.space.inner(force, own.force(x)) for own in operators]
        return torch.stack([zero.double() for zero in zeros], -1)

    return measure
