"""Estimators of the gradients of the reverse and the forward Kullback-Leibler divergence.

Three of them carry prior configurations x to samples y of q and estimate the gradient of E_q[log q + S] = KL(q | p) -
log Z. They agree in expectation and differ in variance and cost. The forward divergence needs samples of the target.
Where ranks share a batch, their estimates, weighted by the sizes of their parts, add up to that of the batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.actions import ActionLike
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow


class Divergence(NamedTuple):
    """An estimate of a divergence and of its gradient."""

    surrogate: Tensor
    """A scalar whose gradient is that estimate."""
    log_w: Tensor
    """log w = -S - log q `(n,)` of the configurations."""
    forward: bool = False
    """Whether the configurations are samples of the target, not of the model."""

    @property
    def loss(self) -> float:
        """The mean of -log w, KL(q | p) - log Z; for samples of the target that of log w, KL(p | q) + log Z."""
        mean = self.log_w.mean().item()
        return mean if self.forward else -mean


def reparametrisation(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> Divergence:
    """The total derivative of the mean of log q(y) + S(y), where y depends on x and on the parameters."""
    y, log_q = flow.transform(x)
    terms = log_q + action(y)
    return Divergence(terms.mean(), -terms.detach())


def path(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> Divergence:
    """The path gradient: the derivative through y alone (L. Vaitl et al., 2207.08219).

    It leaves out the derivative of log q at fixed y, which has expectation 0 but fluctuates even when q = p. So its
    variance vanishes near the optimum. It costs one inverse pass more.
    """
    y, _ = flow.transform(x)
    fixed = y.detach().requires_grad_()
    terms = flow.log_prob(fixed) + action(fixed)
    (gradient,) = torch.autograd.grad(terms.sum(), fixed)
    return Divergence((gradient.conj() * y).real.sum() / len(x), -terms.detach())


def reinforce(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> Divergence:
    """The score-function estimator with the batch mean as control variate (P. Bialas et al., 2202.01314).

    It differentiates log q of given configurations alone, neither the action nor the configurations. Fewer than two
    samples on all ranks are an InvalidInput.
    """
    n = world.total(len(x))
    if n < 2:
        raise InvalidInput(f"the control variate needs a batch of at least 2, got {n}")
    with torch.no_grad():
        y, log_q = flow.transform(x)
        terms = log_q + action(y)
        mean = world.total(terms.sum().item()) / n
        # n - 1: each sample's baseline is the mean of the others
        advantage = (terms - mean) * (n / (n - 1) / len(x))
    return Divergence((advantage * flow.log_prob(y)).sum(), -terms)


def likelihood(flow: Flow, action: ActionLike, y: Tensor) -> Divergence:
    """Maximum likelihood on independent samples y of the target; it punishes omissions of a flow."""
    log_q = flow.log_prob(y)
    return Divergence(-log_q.mean(), (-action(y) - log_q).detach(), forward=True)


def forward_path(flow: Flow, action: ActionLike, y: Tensor) -> Divergence:
    """The path gradient of the forward divergence, which is the reverse divergence of the inverse flow.

    The inverse flow takes independent samples y of the target to prior configurations z. The derivative goes through z
    alone. It vanishes with the divergence, noise included (L. Vaitl et al., 2207.08219).
    """
    z, _ = flow.inverse(y)
    fixed = z.detach().requires_grad_()
    there, logdet = flow(fixed)
    log_pulled_back = logdet - action(there) - flow.log_prior(fixed)
    (gradient,) = torch.autograd.grad(log_pulled_back.sum(), fixed)
    return Divergence((gradient.conj() * z).real.sum() / len(y), log_pulled_back.detach(), forward=True)


def log_ratio(flow: Flow, action: ActionLike, y: Tensor) -> Divergence:
    """Least squares of log p / q on given configurations, for a normalised target: Huber's loss, of width 1.

    The configurations may have any density. The gradient vanishes, noise included, where the model is exact. For losses
    of the log-ratio on other samples than the model's see L. Richter et al., 2010.10436.
    """
    log_w = -action(y) - flow.log_prob(y)
    return Divergence(functional.huber_loss(log_w, torch.zeros_like(log_w)), log_w.detach(), forward=True)


ESTIMATORS = {"reparametrisation": reparametrisation, "path": path, "reinforce": reinforce}
