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
from lattice_flows.observables.slices import slice_plaquettes
from lattice_flows.streams import keyed

STEP = 1e-4
"""How far links move along probes. Even orders of the difference vanish on average, as -z is as likely as z."""
SEEDS = 2**20
"""Average plaquettes that differ by much less than the inverse, as by rounding, give the same probes."""


def smeared_slice_zeros(action: Action, rho: float, steps: Sequence[int]) -> Observable:
    """Z_k(t) = div V_k - dS.V_k `(*batch, T, n)`, whose mean is zero, for n numbers k of steps.

    Those of plaquettes after n steps are 0, n and 2 n. Without probes `slice_zeros` has Z_0, too. The difference shows
    a part of the noise of all of them.

    The seed of probes comes from the plaquettes: a configuration has one result.

    Args:
        rho: as for `stout_smear`.
        steps: the k, in ascending order.

    Raises:
        InvalidInput: the action is not one of links in three or four dimensions; steps that do not ascend from >= 0.

    Source: M. F. Hutchinson, Commun. Stat. Simul. 18 (1989) 1059, for traces by probes; C. Morningstar, M. Peardon,
    hep-lat/0311018, for the smearing.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> action = Wilson(GaugeField(SU(2), (4, 4, 5)), beta=2.0)
        >>> smeared_slice_zeros(action, rho=0.1, steps=(0, 2, 4))(action.space.cold(1)).shape
        torch.Size([1, 5, 3])
    """
    space = gauge_field(action.space)
    plaquettes = slice_plaquettes(space)
    smeared = _Smeared(space, rho, steps)

    def measure(links: Tensor) -> Tensor:
        x = links.to(space.dtype(torch.float64)).reshape(-1, *space.shape)
        slices = smeared.cut(x)
        fields = smeared(slices)
        zeros = -smeared.along(smeared.cut(action.force(x)), fields)
        seeds = (SEEDS * plaquettes(x).mean(-1)).round().long().tolist()
        for z in smeared.probes(slices, seeds):
            moved = smeared(smeared.within.move(slices, STEP * z))
            zeros += smeared.along(z, moved - fields) / STEP
        return zeros.reshape(*space.batch(links), -1, len(steps))

    return measure


class _Smeared:
    """The forces of plaquettes in slices after some numbers of steps, and probes of their divergences.

    Shapes: slices of all configurations, and their tangent fields, `(n, *within)`; fields `(n, len(steps), *within)`.
    """

    def __init__(self, space: GaugeField, rho: float, steps: Sequence[int]):
        self.more = [later - before for before, later in itertools.pairwise((0, *steps))]
        """Steps from each field to the next one."""
        if min(self.more, default=-1) < 0:
            raise InvalidInput(f"steps of smeared slices must ascend from >= 0, got {list(steps)}")
        self.within = space.on(space.lattice.extents[:-1])
        """The links in space of one slice."""
        self.weight = rho * space.group.bare_coupling / space.group.n

    def cut(self, x: Tensor) -> Tensor:
        """The slices of links `(batch, *shape)`, or those of their tangent fields."""
        dim = self.within.dim
        return x[:, :dim].movedim(dim + 2, 1).reshape(-1, *self.within.shape)

    def __call__(self, slices: Tensor) -> Tensor:
        """The forces."""
        extents, one, fields = self.within.lattice.extents, slices.real.new_ones(len(slices), 1), []
        for more in self.more:
            for _ in range(more):  # Euler's: no way to a midpoint
                slices = link_steps(slices, extents, 0 * one, self.weight * one).links
            fields.append(link_operators(slices, extents, one).force)
        return torch.stack(fields, 1)

    def along(self, tangent: Tensor, fields: Tensor) -> Tensor:
        """The inner products `(n, len(steps))` of a tangent field with others."""
        return self.within.inner(tangent.unsqueeze(1), fields)

    def probes(self, slices: Tensor, seeds: Sequence[int]) -> Iterator[Tensor]:
        """Tangent fields z with components +1 or -1, on links of one direction at even and at odd sites in turn.

        So what the derivative of V has between neighbours is no noise.
        """
        shape = len(slices) // len(seeds), *self.within.axes, len(self.within.group.generators())
        draws = [torch.randint(2, shape, generator=keyed(seed, "probes"), dtype=torch.float64) for seed in seeds]
        signs = 2 * torch.cat(draws) - 1
        odd = self.within.lattice.coordinates().sum(0).reshape(self.within.lattice.extents) % 2
        for mu, side in itertools.product(range(self.within.dim), range(2)):
            own = torch.zeros_like(signs)
            own[:, mu] = signs[:, mu] * (odd == side)[..., None]
            yield self.within.directions(slices, own.to(slices.device))
