"""Weights between actions: reweighting in beta; free energies and means of annealed sampling."""

import math

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.weights import jackknife_error


@torch.no_grad()
def log_weights(action: Action, x: Tensor, beta: float) -> Tensor:
    """log w = S(x) - S_beta(x) `(*batch,)`, the log-weights of samples x of an action at another beta, in float64.

    Raises:
        InvalidInput: the action has no coupling beta, or beta is not a finite number >= 0.

    Source: A. M. Ferrenberg, R. H. Swendsen, Phys. Rev. Lett. 61 (1988) 2635.

    Example:
        >>> from lattice_flows import SU, GaugeField, actions
        >>> action = actions.Wilson(GaugeField(SU(3), (4, 4)), beta=6.0)
        >>> log_weights(action, action.space.cold(2), beta=6.5)
        tensor([8., 8.], dtype=torch.float64)
    """
    x = x.to(action.space.dtype(torch.float64))  # both grow with the volume, and most of their digits cancel
    return action(x) - action.at(beta)(x)


def log_z_ratio(log_w: Tensor, population: int = 1) -> tuple[Tensor, Tensor]:
    """log(Z / Z_0) = log <w>, with its error by the jackknife over populations.

    The mean of w is unbiased, with resampling too; its logarithm is low by about half the squared error.

    Shapes: log_w `(*batch, chains)`, such as `log_w` and `history` of `Annealed` -> two of `(*batch,)`, float64.

    Args:
        population: the number of successive chains that were resampled together.

    Raises:
        InvalidInput: fewer than two populations, or chains that do not fill them.

    Source: C. Jarzynski, cond-mat/9610209; B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM
    (1982).

    Example:
        >>> log_w = 0.5 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> value, error = log_z_ratio(log_w)
        >>> print(f"{value:.3f} +- {error:.3f}")  # exactly 1/8 for these weights
        0.121 +- 0.005
    """
    share = _shares(log_w, population).sum(-1)
    value = log_w.double().logsumexp(-1) - math.log(log_w.shape[-1])
    return value, jackknife_error(torch.log1p(-share))


def weighted_mean(values: Tensor, log_w: Tensor, population: int = 1) -> tuple[Tensor, Tensor]:
    """<O> = sum w O / sum w for the last action of a schedule, with its error by the jackknife over populations.

    Shapes: values and log_w `(*batch, chains)` -> two of `(*batch,)`, float64. Errors: as `log_z_ratio`.

    Source: R. M. Neal, physics/9803008.

    Example:
        >>> x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> value, error = weighted_mean(x, log_w=0.5 * x)  # exactly 0.5
        >>> print(f"{value:.2f} +- {error:.2f}")
        0.50 +- 0.01
    """
    share = _shares(log_w, population)
    part = share * values.double().unflatten(-1, (-1, population))
    value = part.sum((-2, -1))
    return value, jackknife_error((value.unsqueeze(-1) - part.sum(-1)) / (1 - share.sum(-1)))


def _shares(log_w: Tensor, population: int) -> Tensor:
    """w / sum w `(*batch, populations, population)`."""
    chains = log_w.shape[-1]
    if population < 1 or chains % population or chains < 2 * population:
        raise InvalidInput(f"an error needs two or more populations of {population}, filled by chains, got {chains}")
    return log_w.double().softmax(-1).unflatten(-1, (-1, population))
