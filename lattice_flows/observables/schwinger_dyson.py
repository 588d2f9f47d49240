"""The identity of Schwinger and Dyson: quantities whose mean is zero in the ensemble of an action."""

from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.operators import NextToLeading


def schwinger_dyson(action: Action) -> Observable:
    """Lap W - dS.dW `(*batch, n_operators)` of the operators of the next-to-leading order, in their order.

    The mean is zero where configurations have the density exp(-S). They are control variates for the mean of any
    observable, and test the ensemble.

    Raises:
        InvalidInput: the action is not one of links, or as `NextToLeading`.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.actions import Wilson
        >>> action = Wilson(GaugeField(SU(2), (4, 4)), beta=1e-6)  # Haar's measure, nearly
        >>> zeros = schwinger_dyson(action)(action.space.prior(1000, torch.Generator().manual_seed(0)))
        >>> bool((zeros.mean(0).abs() < 4 * zeros.std(0) / 1000**0.5).all())
        True
    """
    space = gauge_field(action.space)
    operators = NextToLeading(space.group, space.dim)

    def measure(x: Tensor) -> Tensor:
        laplacians, slopes = operators.derivatives(x, action.force(x))
        return laplacians - slopes

    return measure
