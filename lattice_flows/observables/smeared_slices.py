"""Time slices of smeared links: what improves the correlators of their plaquettes.

F_k is the force of the plaquettes of a slice on links after k steps of stout smearing. As a field V_k on the links that
are not smeared it is gauge covariant and stays in its slice. Random probes z estimate its divergence,

    div V = E[inner(z, dV/dz)],   z with components +1 or -1.

Smearing acts twice in the plaquettes after n steps, once on each of two fields. So V_2n follows their fluctuations.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import link_operators, link_steps
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.streams import keyed

STEP = 1e-4
"""How far links move along probes. Even orders of the difference vanish on average, as -z is as likely as z."""
SEEDS = 2**20
"""Average plaquettes that differ by much less than the inverse, as by rounding, give the same probes."""


def smeared_slice_zeros(action: Action, rho: float, steps: int) -> Observable:
    """Z_k(t) = div V_k - dS.V_k `(*batch, T, 3)`, whose mean is zero, at k = 0, n, 2 n for n steps in space.

    Without probes `slice_zeros` has Z_0, too. The difference shows a part of the noise of all three.

    The seed of probes comes from the plaquettes: a configuration has one result.

    Args:
        rho, steps: as for `stout_smear`, steps >= 1.

    Raises:
        InvalidInput: the action is not one of links in three or four dimensions; no such number of steps.

    Source: M. F. Hutchinson, Commun. Stat. Simul. 18 (1989) 1059, for traces by probes; C. Morningstar, M. Peardon,
    hep-lat/0311018, for the smearing.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> action = Wilson(GaugeField(SU(2), (4, 4, 5)), beta=2.0)
        >>> smeared_slice_zeros(action, rho=0.1, steps=2)(action.space.cold(1)).shape
        torch.Size([1, 5, 3])
    """
    space = gauge_field(action.space)
    if space.dim < 3:
        raise InvalidInput(f"all plaquettes are time-like in two dimensions, got {space}")
    if steps < 1:
        raise InvalidInput(f"zeros of smeared slices need steps >= 1, got {steps}")
    smeared = _Smeared(space, rho, steps)

    def measure(links: Tensor) -> Tensor:
        x = links.to(space.dtype(torch.float64)).reshape(-1, *space.shape)
        slices = smeared.cut(x)
        plaquettes, fields = smeared(slices)
        zeros = -smeared.along(smeared.cut(action.force(x)), fields)
        seeds = plaquettes.reshape(len(x), -1).mean(1) / space.volume
        for z in smeared.probes(slices, (SEEDS * seeds).round().long().tolist()):
            _, moved = smeared(smeared.within.move(slices, STEP * z))
            zeros += smeared.along(z, moved - fields) / STEP
        return zeros.reshape(*space.batch(links), -1, 3)

    return measure


class _Smeared:
    """The forces of plaquettes in slices after 0, n and 2 n steps, and probes of their divergences.

    Shapes: slices of all configurations, and their tangent fields, `(n, *within)`; fields `(n, 3, *within)`.
    """

    def __init__(self, space: GaugeField, rho: float, steps: int):
        self.within = space.on(space.lattice.extents[:-1])
        """The links in space of one slice."""
        self.weight, self.steps = rho * space.group.bare_coupling / space.group.n, steps

    def cut(self, x: Tensor) -> Tensor:
        """The slices of links `(batch, *shape)`, or those of their tangent fields."""
        dim = self.within.dim
        return x[:, :dim].movedim(dim + 2, 1).reshape(-1, *self.within.shape)

    def __call__(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of plaquettes of links that are not smeared `(n, 1)`, and the forces."""
        extents, one = self.within.lattice.extents, slices.real.new_ones(len(slices), 1)
        found = link_operators(slices, extents, one)
        fields = [found.force]
        for _ in range(2):
            for _ in range(self.steps):  # Euler's: no way to a midpoint
                slices = link_steps(slices, extents, 0 * one, self.weight * one).links
            fields.append(link_operators(slices, extents, one).force)
        return found.values, torch.stack(fields, 1)

    def along(self, tangent: Tensor, fields: Tensor) -> Tensor:
        """The inner products `(n, 3)` of a tangent field with others."""
        return self.within.inner(tangent.unsqueeze(1), fields)

    def probes(self, slices: Tensor, seeds: Sequence[int]) -> Iterator[Tensor]:
        """Tangent fields z with components +1 or -1, on links of one direction at even and at odd sites in turn.

        So what the derivative of V has between neighbours is no noise.
        """
        extents, each = self.within.lattice.extents, len(slices) // len(seeds)
        shape = each, *self.within.axes, len(self.within.group.generators())
        draws = [torch.randint(2, shape, generator=keyed(seed, "probes"), dtype=torch.float64) for seed in seeds]
        signs = 2 * torch.cat(draws) - 1
        odd = sum(torch.meshgrid(*map(torch.arange, extents), indexing="ij")) % 2
        for mu, side in itertools.product(range(self.within.dim), range(2)):
            own = torch.zeros_like(signs)
            own[:, mu] = signs[:, mu] * (odd == side)[..., None]
            yield self.within.directions(slices, own.to(slices.device))
