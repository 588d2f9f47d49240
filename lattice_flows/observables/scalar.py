"""Observables of a scalar field: magnetisation, two-point functions and sums of them.

Averages over the lattice are G(x) = (1/V) sum_y phi(y) phi(y + x) for one configuration. By the symmetry phi -> -phi
the mean of the field is 0, so <G> is the connected two-point function; in a broken phase, subtract <m>^2.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import ScalarField, Space
from lattice_flows.observables.base import Observable, ObservableEntry


def scalar_field(space: Space) -> ScalarField:
    """Return the space, if it is one of scalars; else raise InvalidInput."""
    if not isinstance(space, ScalarField):
        raise InvalidInput(f"a space of scalars is needed, such as ScalarField((8, 8)), got {space!r}")
    return space


def magnetisation(space: Space) -> Observable:
    """m = (1/V) sum_x phi(x), which changes sign with the field.

    Shapes: phi `(*batch, *sites)` -> `(*batch,)`.

    Raises:
        InvalidInput: the space, or the field, is not one of scalars.

    Example:
        >>> space = ScalarField((8, 8))
        >>> magnetisation(space)(-torch.ones(5, 8, 8))
        tensor([-1., -1., -1., -1., -1.])
    """
    dim = scalar_field(space).dim
    return lambda phi: space.check(phi).flatten(-dim).mean(-1)


def magnetisation_modulus(space: Space) -> Observable:
    """|m|, the order parameter on a finite lattice. Shapes and errors: as `magnetisation`."""
    average = magnetisation(space)
    return lambda phi: average(phi).abs()


def phi_squared(space: Space) -> Observable:
    """(1/V) sum_x phi(x)^2 = G(0). Shapes and errors: as `magnetisation`."""
    average = magnetisation(space)
    return lambda phi: average(phi.square())


def two_point_susceptibility(space: Space) -> Observable:
    """chi_2 = sum_x G(x) = V m^2 (M. S. Albergo et al., 1904.12072). Shapes and errors: as `magnetisation`."""
    average, volume = magnetisation(space), space.volume
    return lambda phi: volume * average(phi).square()


def ising_energy(space: Space) -> Observable:
    """E = (1/d) sum_mu G(mu), the mean of phi(x) phi(x + mu) over sites and directions.

    Shapes, errors and source: as `two_point_susceptibility`.

    Example:
        >>> stripes = torch.ones(4, 4)
        >>> stripes[::2] = -1
        >>> ising_energy(ScalarField((4, 4)))(stripes)
        tensor(0.)
    """
    average, dim = magnetisation(space), space.dim
    return lambda phi: torch.stack([average(phi * phi.roll(-1, axis)) for axis in range(-dim, 0)]).mean(0)


def zero_momentum_correlator(space: Space, direction: int = -1) -> Callable[[Tensor], Tensor]:
    """C(t) = sum over y with y_mu = t of G(y), for all t along one direction mu.

    With the mean S(t) of the field over the slice at t, of V_s sites, C(t) = (V_s / T) sum_t' S(t') S(t' + t). The sum
    over t is chi_2. `pole_mass` of the average is the mass of the lightest state.

    Shapes: phi `(*batch, *sites)` -> `(*batch, T)`.

    Args:
        direction: mu, 0 ... dim - 1, or counted from the end.

    Raises:
        InvalidInput: as `magnetisation`, or the lattice has no such direction.

    Source: M. S. Albergo, G. Kanwar, P. E. Shanahan, 1904.12072; here C is not divided by V_s.

    Example:
        >>> zero_momentum_correlator(ScalarField((4, 6)))(torch.ones(5, 4, 6)).shape
        torch.Size([5, 6])
    """
    dim = scalar_field(space).dim
    if not -dim <= direction < dim:
        raise InvalidInput(f"direction must be from {-dim} to {dim - 1} in {dim} dimensions, got {direction}")
    axis = direction % dim - dim
    across = tuple(other for other in range(-dim, 0) if other != axis)
    size = space.volume // space.shape[axis]

    def observable(phi: Tensor) -> Tensor:
        slices = space.check(phi).mean(across)
        return size * torch.stack([(slices * slices.roll(-t, -1)).mean(-1) for t in range(slices.shape[-1])], -1)

    return observable


def pole_mass(correlator: ArrayLike) -> NDArray[np.float64]:
    """m(t) = arcosh[(C(t - 1) + C(t + 1)) / (2 C(t))] of an average C = `zero_momentum_correlator`, 0 < t < T.

    It is the mass of the lightest state where this state alone contributes, away from t = 0 and T. nan where noise has
    made the ratio less than 1. Its error is that of a jackknife over configurations.

    Shapes: `(*batch, T)` -> `(*batch, T - 1)`; on a periodic lattice C(T) = C(0).

    Raises:
        InvalidInput: T < 3.

    Source: M. S. Albergo, G. Kanwar, P. E. Shanahan, 1904.12072.

    Example:
        >>> pole_mass(np.cosh(0.5 * (np.arange(6) - 3))).round(4)
        array([0.5, 0.5, 0.5, 0.5, 0.5])
    """
    c = np.asarray(correlator, dtype=np.float64)
    if c.ndim < 1 or c.shape[-1] < 3:
        raise InvalidInput(f"a pole mass needs a correlator (*batch, T), T >= 3, got shape {c.shape}")
    ratio = (np.roll(c, 1, -1) + np.roll(c, -1, -1))[..., 1:] / (2 * c[..., 1:])
    return np.arccosh(np.where(ratio >= 1, ratio, np.nan))


def _on_scalars(build: Callable[[Space], Observable]) -> Callable[[Space], Observable | None]:
    return lambda space: build(space) if isinstance(space, ScalarField) else None


MAGNETISATION = ObservableEntry("|magnetisation|", _on_scalars(magnetisation_modulus))
PHI_SQUARED = ObservableEntry("phi^2", _on_scalars(phi_squared))
SUSCEPTIBILITY = ObservableEntry("two-point susceptibility", _on_scalars(two_point_susceptibility))
ISING_ENERGY = ObservableEntry("Ising energy", _on_scalars(ising_energy))
