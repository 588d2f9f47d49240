"""The table of samplers: a sampler here runs every law on it."""

import cases
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Iwasaki, Wilson
from lattice_flows.actions.base import Action
from lattice_flows.fields import plaquette
from lattice_flows.sampling import HMC, Cycle, HeatBath, IndependenceMetropolis, Metropolis, OverRelaxation


class ByAutograd(Action):
    """An action that no kernel knows, whose digits depend on where in a tensor they are computed (of sinh and cosh)."""

    def __init__(self, action):
        super().__init__(action.group, action.beta)
        self.inner = action

    def forward(self, links):
        loop = plaquette(links, 0, 1, self.group, dim=self.inner.dim)
        return self.inner(links) + self.group.retrace(loop).sinh().flatten(1).sum(1)


def flow_metropolis(action, sites, dtype, batch):
    """From a flow far from the identity."""
    return IndependenceMetropolis(cases.hierarchical_flow(action.group, sites, scale=0.2, dtype=dtype), action, batch)


def mixture(action, sites, dtype):
    """A flow proposal where there is a flow for the lattice, and sweeps."""
    other = flow_metropolis(action, sites, dtype, 3) if len(sites) == 2 else HMC(action, steps=2)
    return Cycle([other, (OverRelaxation(action), 2), HeatBath(action)])


# name: sampler of a Wilson action, for extents and a precision
SAMPLERS = {
    "hmc": lambda action, sites, dtype: HMC(action, steps=3),
    "leapfrog": lambda action, sites, dtype: HMC(action, steps=4, integrator="leapfrog"),
    "hmc_iwasaki": lambda action, sites, dtype: HMC(Iwasaki(action.group, action.beta, dim=len(sites)), 0.3, steps=2),
    "hmc_autograd": lambda action, sites, dtype: HMC(ByAutograd(action), 0.3, steps=2),
    "metropolis": lambda action, sites, dtype: Metropolis(action, spread=0.5, hits=2),
    "heat_bath": lambda action, sites, dtype: HeatBath(action),
    "over_relaxation": lambda action, sites, dtype: OverRelaxation(action),
    "flow": lambda action, sites, dtype: flow_metropolis(action, sites, dtype, 5),
    "cycle": mixture,
}

# group, beta, extents: odd and unequal ones, 2 among them, and every dimension
THEORIES = [
    (U1(), 1.5, (3, 5)),
    (U1(), 1.0, (2, 3, 4)),
    (SU(2), 2.0, (5, 3)),
    (SU(2), 1.5, (3, 2, 2, 3)),
    (SU(3), 4.0, (3, 3)),
    (SU(4), 6.0, (3, 2)),
]
FLAT = [theory for theory in THEORIES if len(theory[2]) == 2]

PAIRS = [
    (name, theory)
    for name in SAMPLERS
    for theory in (FLAT[:3] if name == "flow" else THEORIES[:3] if name == "hmc_iwasaki" else THEORIES)
]


def build(name, group, beta, sites, dtype=torch.float64):
    """A sampler of the table, for the Wilson action."""
    return SAMPLERS[name](Wilson(group, beta, dim=len(sites)), sites, dtype)


def followed(sampler, state, streams, steps):
    """The states and the infos of so many steps."""
    found = []
    for _ in range(steps):
        found.append(sampler.step(state, streams))
        state = found[-1][0]
    return found
