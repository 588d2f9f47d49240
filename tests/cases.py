"""The case tables: adding a group, an action or a layer here runs every law on it."""

import math
from typing import NamedTuple

import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.config.registry import ACTIONS
from lattice_flows.flows import checkerboard, stripes
from lattice_flows.layers import ConvContext, GaugeCoupling, LinkPartition, SpectralMap
from lattice_flows.planar.hierarchical import hierarchical
from lattice_flows.planar.perceptron import BoundaryContext


class Mean(NamedTuple):
    """A mean and its error."""

    value: float
    error: float


def mean_of_chains(series):
    """The mean of a series `(chains, n)`, with the error of independent chains, which may stay where they are."""
    means = series.double().mean(1)
    return Mean(means.mean().item(), means.std().item() / len(means) ** 0.5)


GROUPS = [U1(), SU(2), SU(3), SU(4), SU(5)]
LATTICES = [(4, 6), (4, 2, 6), (2, 4, 4, 2)]
GAUGE_FIELDS = [GaugeField(group, lattice) for group in GROUPS for lattice in LATTICES]
SPACES = [*GAUGE_FIELDS, ScalarField((4, 6)), ScalarField((4, 2, 6))]
PARTITIONS = [
    LinkPartition.stripes((4, 6), mu=0, offset=1),
    LinkPartition.stripes((4, 6), mu=1, offset=0),
    LinkPartition.checkerboard((4, 2, 6), mu=2, parity=1),
    LinkPartition.checkerboard((2, 4, 4, 2), mu=0, parity=0, nu=3),
]
ACTION_NAMES = list(ACTIONS)

# float32: of single layers with parameters of unit variance
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
DTYPES = [torch.float64, torch.float32]


def coupling(group, partition, bins=5, seed=0):
    """A coupling whose context is far enough from 0 to matter."""
    torch.manual_seed(seed)
    conjugation = SpectralMap(group, bins)
    context = ConvContext(partition, group, conjugation.n_params, hidden=(6,))
    torch.nn.init.normal_(context.head.bias)
    return GaugeCoupling(group, partition, conjugation, context)


def flow(group, lattice, layers, seed=0, **settings):
    """A flow of the architecture for these extents."""
    build = stripes if len(lattice) == 2 else checkerboard
    return build(group, lattice, layers=layers, hidden=(4,), bins=4, seed=seed, **settings)


def names(cases):
    """Ids for pytest."""
    return [str(case).replace("torch.", "").split("\n")[0][:40] for case in cases]


def designs(group):
    """Levels with every kind of sublayer that a group can have."""
    return {U1(): ("cfab", "fa", "cb"), SU(3): ("crab", "ta", "cb")}.get(group, ("crab", "ar", "cb"))


def rebuild(group, phases, frame):
    """The element with these eigenphases in this frame: the inverse of `group.eigenphases`."""
    if group.abelian:
        return phases.squeeze(-1)
    return (frame * torch.polar(torch.ones_like(phases), phases).unsqueeze(-2)) @ frame.mH


def near_degenerate(group, kind, count, generator):
    """Elements whose phases meet: the identity, near the identity, or near another element of the centre."""
    near = group.exp(1e-4 * group.random_algebra(count, generator=generator, dtype=torch.float64))
    centre = torch.exp(torch.tensor(2j * math.pi / group.n, dtype=near.dtype))
    identity = group.identity(count, dtype=torch.float64)
    return {"identity": identity, "near identity": near, "centre": centre * near}[kind]


def stir(module, scale=0.5, seed=0):
    """Perceptrons far enough from 0 to matter."""
    generator = torch.Generator().manual_seed(seed)
    for context in module.modules():
        if isinstance(context, BoundaryContext):
            for parameter in context.body.parameters():
                torch.nn.init.normal_(parameter, std=0.5, generator=generator)
            for parameter in context.head.parameters():
                torch.nn.init.normal_(parameter, std=scale, generator=generator)
    return module


def hierarchical_flow(group, lattice, levels=None, scale=0.5, seed=0, **settings):
    """A hierarchical flow far from the identity."""
    settings = {"bins": 4, "hidden": (6,), "dtype": torch.float64} | settings
    return stir(hierarchical(group, lattice, levels=levels or designs(group), seed=seed, **settings), scale, seed)
