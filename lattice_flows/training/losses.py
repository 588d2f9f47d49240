"""Three estimators of the gradient of the reverse Kullback-Leibler divergence, behind one interface, and a forward one.

The three push prior links x to links of q and estimate the gradient of E_q[log q + S] = KL(q | p) - log Z. They agree
in expectation and differ in variance and cost. The forward divergence needs samples of the target. Where the batch is
spread over ranks, each has an estimate from its part, and theirs, weighted by the sizes of the parts, add up to that of
the batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.actions import ActionLike
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow


class ReverseKL(NamedTuple):
    """`surrogate`, a scalar whose gradient is the estimate, and the log-weights log w = -S - log q `(n,)` behind it."""

    surrogate: Tensor
    log_w: Tensor

    @property
    def loss(self) -> float:
        """The mean of -log w: KL(q | p) - log Z."""
        return -self.log_w.mean().item()


class ForwardKL(NamedTuple):
    """As `ReverseKL`, with log-weights of samples of the target."""

    surrogate: Tensor
    log_w: Tensor

    @property
    def loss(self) -> float:
        """The mean of log w: KL(p | q) + log Z."""
        return self.log_w.mean().item()


def reparametrisation(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> ReverseKL:
    """The total derivative of the mean of log q(y) + S(y), y being a function of x and of the parameters."""
    links, log_q = flow.push(x)
    terms = log_q + action(links)
    return ReverseKL(terms.mean(), -terms.detach())


def path(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> ReverseKL:
    """The path gradient: the derivative through y alone (L. Vaitl et al., 2207.08219).

    What is left out, the derivative of log q at fixed y, has expectation 0, and is what still fluctuates when q = p:
    near the optimum the variance of this estimator vanishes. It costs one inverse pass more.
    """
    links, _ = flow.push(x)
    fixed = links.detach().requires_grad_()
    terms = flow.log_prob(fixed) + action(fixed)
    (gradient,) = torch.autograd.grad(terms.sum(), fixed)
    surrogate = (gradient.conj() * links).real.sum() / len(x)
    return ReverseKL(surrogate, -terms.detach())


def reinforce(flow: Flow, action: ActionLike, x: Tensor, world: World = SERIAL) -> ReverseKL:
    """The score-function estimator with the batch mean as control variate (P. Bialas et al., 2202.01314).

    No derivative of the action is taken, and none of the links: only log q of given links is differentiated.
    """
    n = world.total(len(x))
    if n < 2:
        raise InvalidInput(f"the control variate needs a batch of at least 2, got {n}")
    with torch.no_grad():
        links, log_q = flow.push(x)
        terms = log_q + action(links)
        mean = world.total(terms.sum().item()) / n
        # n - 1: each sample's baseline is the mean of the others
        advantage = (terms - mean) * (n / (n - 1) / len(x))
    return ReverseKL((advantage * flow.log_prob(links)).sum(), -terms)


def likelihood(flow: Flow, action: ActionLike, links: Tensor) -> ForwardKL:
    """Maximum likelihood on independent samples of the target: what the flow leaves out is what it costs."""
    log_q = flow.log_prob(links)
    return ForwardKL(-log_q.mean(), (-action(links) - log_q).detach())


def forward_path(flow: Flow, action: ActionLike, links: Tensor) -> ForwardKL:
    """The path gradient of the forward divergence: that of the reverse one, of the inverse flow.

    On independent samples x of the target, KL(p | q) is the divergence from the prior of x pulled back to prior links
    z, and its derivative is taken through z alone. It vanishes with the divergence, noise included.

    Source: L. Vaitl et al., 2207.08219.
    """
    prior_links, _ = flow.inverse(links)
    fixed = prior_links.detach().requires_grad_()
    y, there = flow(fixed)
    log_pulled_back = there - action(y) - flow.prior.log_prob(fixed)
    (gradient,) = torch.autograd.grad(log_pulled_back.sum(), fixed)
    surrogate = (gradient.conj() * prior_links).real.sum() / len(links)
    return ForwardKL(surrogate, log_pulled_back.detach())


def log_ratio(flow: Flow, action: ActionLike, links: Tensor) -> ForwardKL:
    """Least squares of log p / q on given links, for a normalised target: Huber's loss, of width 1.

    The links may come from anywhere, so that what neither the model nor the target often reaches can be covered, and
    the gradient vanishes, noise included, where the model is exact.

    Source: L. Richter et al., 2010.10436, for losses of the log-ratio on other samples than the model's.
    """
    log_w = -action(links) - flow.log_prob(links)
    return ForwardKL(functional.huber_loss(log_w, torch.zeros_like(log_w)), log_w.detach())


ESTIMATORS = {"reparametrisation": reparametrisation, "path": path, "reinforce": reinforce}
