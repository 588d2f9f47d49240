"""The table of samplers: a sampler here runs every law on it."""

import copy

import cases
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Iwasaki, Wilson
from lattice_flows.actions.base import Action
from lattice_flows.actions.local import Cell
from lattice_flows.lattice import plaquette
from lattice_flows.sampling import HMC, Cycle, HeatBath, IndependenceMetropolis, Metropolis, OverRelaxation


class ByAutograd(Action):
    """An action that no kernel knows, whose digits depend on where in a tensor they are computed (of sinh and cosh)."""

    def __init__(self, action):
        super().__init__(action.space, action.beta)
        self.inner = action

    def forward(self, x):
        loop = plaquette(x, 0, 1, self.space)
        return self.inner(x) + self.space.group.retrace(loop).sinh().flatten(1).sum(1)


def cell_by_cell(action):
    """The action without what a kernel of whole lattices needs: sweeps change cell after cell."""
    other = copy.copy(action)
    other.loop_weights = lambda: None
    return other


class Given:
    """The energy of scalars between the sums of their neighbours."""

    def __init__(self, sums, diagonal):
        self.sums_of_neighbours, self.diagonal = sums, diagonal

    def energy(self, elements):
        return elements * (self.diagonal * elements / 2 - self.sums_of_neighbours)


class Gaussian(Action):
    """S = sum over x of phi(x) ((m2 + 2 dim) phi(x) / 2 - sum over mu of phi(x + mu)): a free scalar field."""

    def __init__(self, lattice, m2):
        super().__init__(ScalarField(lattice))
        self.diagonal = m2 + 2 * self.space.dim

    def forward(self, x):
        ahead = sum(torch.roll(x, -1, mu - self.space.dim) for mu in range(self.space.dim))
        return (x * (self.diagonal * x / 2 - ahead)).flatten(-self.space.dim).sum(-1)

    def cells(self, device="cpu"):
        lattice = self.space.lattice
        walks = torch.stack([lattice.neighbours(mu, step) for mu in range(lattice.dim) for step in (1, -1)])
        here = [(lattice.colours() == colour).nonzero().squeeze(1) for colour in lattice.colours().unique()]
        return [Cell(active.to(device), walks[:, None, active].to(device)) for active in here]

    def conditional(self, flat, cell):
        # explicit sums: reductions of torch round according to the place in the tensor
        return Given(sum(flat[:, walk] for (walk,) in cell.walks), self.diagonal)

    def exact_square(self):
        """<phi^2> = sum over momenta of 1 / (m2 + sum of 4 sin^2(p / 2)) / V."""
        extents = self.space.lattice.extents
        momenta = self.space.lattice.coordinates().double() * (torch.pi / torch.tensor(extents)[:, None])
        return (1 / (self.diagonal - 2 * self.space.dim + 4 * momenta.sin().square().sum(0))).mean().item()


class Prior:
    """A proposal from the prior of a space."""

    def __init__(self, space, dtype=torch.float64):
        self.space, self.dtype = space, dtype

    def draw(self, n, streams):
        x = streams.draw(lambda g: self.space.prior(n, g, dtype=self.dtype, device=streams.device))[0]
        return x, self.log_w(x)

    def log_w(self, x):
        return -self.space.log_prior(x)


def flow_metropolis(action, dtype, batch):
    """From a flow far from the identity."""
    space = action.space
    flow = cases.hierarchical_flow(space.group, space.lattice, scale=0.2, dtype=dtype)
    return IndependenceMetropolis(flow, action, batch)


def mixture(action, dtype):
    """A flow proposal where there is a flow for the lattice, and sweeps."""
    other = flow_metropolis(action, dtype, 3) if action.space.dim == 2 else HMC(action, steps=2)
    return Cycle([other, (OverRelaxation(action), 2), HeatBath(action)])


def improved_sweeps(action):
    return Cycle([Metropolis(action, spread=0.5), OverRelaxation(action), HeatBath(action)])


# name: sampler of an action, in a precision
SAMPLERS = {
    "hmc": lambda action, dtype: HMC(action, steps=3),
    "leapfrog": lambda action, dtype: HMC(action, steps=4, integrator="leapfrog"),
    # no mode of the free fields below turns by a multiple of pi, which would keep its square
    "short_hmc": lambda action, dtype: HMC(action, 0.7, steps=2),
    "hmc_iwasaki": lambda action, dtype: HMC(Iwasaki(action.space, action.beta), 0.3, steps=2),
    "sweeps_iwasaki": lambda action, dtype: improved_sweeps(Iwasaki(action.space, action.beta / 3)),
    "hmc_autograd": lambda action, dtype: HMC(ByAutograd(action), 0.3, steps=2),
    "metropolis": lambda action, dtype: Metropolis(action, spread=0.5, hits=2),
    "heat_bath": lambda action, dtype: HeatBath(cell_by_cell(action)),
    "over_relaxation": lambda action, dtype: OverRelaxation(cell_by_cell(action)),
    "sweeps": lambda action, dtype: Cycle([(HeatBath(action), 2), OverRelaxation(action)]),
    "flow": lambda action, dtype: flow_metropolis(action, dtype, 5),
    "prior": lambda action, dtype: IndependenceMetropolis(Prior(action.space, dtype), action, 5),
    "cycle": mixture,
}
LOCAL = ("metropolis", "heat_bath", "over_relaxation")

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
# local updates of every group, those that are missing above
SMALL = [(group, float(group.n), (2, 3)) for group in cases.GROUPS if group not in [theory[0] for theory in THEORIES]]
# a scalar field, by its mass squared
SCALARS = [(None, 0.5, (3, 4)), (None, 1.0, (2, 3, 2))]
TINY = (None, 2.0, (2, 2))

CHOSEN = {
    "flow": FLAT[:3],
    "prior": FLAT[:3],
    "short_hmc": [],
    "hmc_iwasaki": THEORIES[:3],
    "sweeps_iwasaki": THEORIES[:5:2],
}
PAIRS = [(name, theory) for name in SAMPLERS for theory in CHOSEN.get(name, THEORIES)]
PAIRS += [(name, theory) for name in LOCAL for theory in SMALL]
PAIRS += [(name, theory) for name in ("short_hmc", "metropolis") for theory in SCALARS] + [("prior", TINY)]


def action_of(group, beta, extents):
    """The Wilson action, or without a group a Gaussian of mass squared beta."""
    return Gaussian(extents, beta) if group is None else Wilson(GaugeField(group, extents), beta)


def build(name, group, beta, extents, dtype=torch.float64):
    """A sampler of the table."""
    return SAMPLERS[name](action_of(group, beta, extents), dtype)


def space_of(group, beta, extents):
    """The space of a theory."""
    return action_of(group, beta, extents).space


def stirred(group, lattice=(3, 4), seed=0, dtype=torch.float64, size=0.3):
    """A flow that nobody trained, with log-determinants that matter."""
    flow = cases.flow(group, lattice, layers=1, seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return flow


def followed(sampler, state, streams, steps):
    """The states and the infos of a number of steps."""
    found = []
    for _ in range(steps):
        found.append(sampler.step(state, streams))
        state = found[-1][0]
    return found
