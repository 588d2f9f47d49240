"""Spaces: the fields that are sampled, with their prior, their moves and their momenta; gauge transformations."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Generator, Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.groups.base import Device, Elements, Reals
from lattice_flows.lattice.layout import Lattice


class Space(ABC):
    """The configurations x of one field on one lattice, with their prior, moves, momenta and distances.

    A configuration is a tensor `(*batch, *shape)`. Tangent vectors, such as forces and momenta, have the same shape.

    To add a kind of field, write a frozen dataclass with the abstract methods; samplers, flows, training and files then
    work on it.
    """

    lattice: Lattice

    @property
    @abstractmethod
    def elements(self) -> Elements:
        """The values of the field: a gauge group for links, the real numbers for scalars."""

    @property
    @abstractmethod
    def axes(self) -> tuple[int, ...]:
        """The axes of the elements of a configuration: directions and sites for links, sites for scalars."""

    @abstractmethod
    def prior(
        self, n: int, generator: Generator | None = None, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """n independent configurations `(n, *shape)` of the prior r."""

    @abstractmethod
    def log_prior(self, x: Tensor) -> Tensor:
        """log r `(*batch,)`, relative to the measure of the space: Haar's for links, Lebesgue's for scalars."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The section `[lattice]` of a config that names this space."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes of one configuration."""
        return (*self.axes, *self.elements.element_shape)

    def dtype(self, precision: torch.dtype | None = None) -> torch.dtype:
        """The dtype of configurations in the precision of a dtype (default: torch's)."""
        return self.elements.element_dtype(precision)

    def cold(self, n: int, *, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """n copies `(n, *shape)` of the ordered configuration."""
        return self.elements.identity(n, *self.axes, dtype=dtype, device=device)

    def exp(self, tangent: Tensor) -> Tensor:
        """The finite step of a tangent vector X: exp(X) for links, X for scalars."""
        return self.elements.exp(tangent)

    def apply(self, step: Tensor, x: Tensor) -> Tensor:
        """The configuration after a finite step from x: the product for links, the sum for scalars."""
        return self.elements.compose(step, x)

    def move(self, x: Tensor, tangent: Tensor) -> Tensor:
        """The configuration after the step of a tangent vector X from x: exp(X) x for links, x + X for scalars."""
        return self.apply(self.exp(tangent), x)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product `(*batch,)` of tangent vectors, summed over the lattice in float64."""
        return self.elements.inner(a, b).flatten(-len(self.axes)).double().sum(-1)

    def random_tangents(
        self, *shape: int, generator: Generator | None = None, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Tangent vectors X `(*shape, *element)` of single elements, with density exp(-inner(X, X) / 2)."""
        return self.elements.random_algebra(*shape, generator=generator, dtype=dtype, device=device)

    def momenta(
        self, generator: Generator | None = None, *, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """One tangent vector P `(*shape)` with density exp(-inner(P, P) / 2)."""
        return self.random_tangents(*self.axes, generator=generator, dtype=dtype, device=device)

    def gradient(self, x: Tensor, derivative: Tensor) -> Tensor:
        """The tangent vector F with L(move(x, t X)) = L(x) + t inner(X, F) + O(t^2), from autograd's `derivative`."""
        return self.elements.algebra_gradient(x, derivative)

    def derivative(self, x: Tensor, force: Tensor) -> Tensor:
        """A derivative, as autograd gives it, whose `gradient` at x is the tangent vector `force`."""
        return self.elements.algebra_derivative(x, force)

    def directions(self, x: Tensor, components: Tensor) -> Tensor:
        """The tangent vector at x with these components `(*batch, *axes, n_components)` in an orthonormal basis."""
        generators = self.elements.generators(dtype=x.real.dtype, device=x.device)
        return torch.tensordot(components.to(x.dtype), generators, dims=1)

    def components(self, tangent: Tensor) -> Tensor:
        """The components `(*batch, *axes, n_components)` of a tangent vector: the inverse of `directions`."""
        generators = self.elements.generators(dtype=tangent.real.dtype, device=tangent.device)
        return self.elements.inner(tangent.unsqueeze(self.site_axis), generators)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """The tangent vector from b to a, to first order in their distance."""
        return self.elements.project_algebra(self.elements.compose(a, self.elements.inverse(b)))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The largest distance `(*batch,)` between elements of two configurations."""
        return self.elements.distance(a, b).flatten(-len(self.axes)).amax(-1)

    def restore(self, x: Tensor) -> Tensor:
        """x without the rounding errors that took it out of the space."""
        return self.elements.restore(x)

    def on(self, lattice: Lattice | Sequence[int]) -> Self:
        """The same field on another lattice."""
        return dataclasses.replace(self, lattice=Lattice(lattice))  # type: ignore[type-var]

    def flatten(self, x: Tensor) -> Tensor:
        """Configurations as `(*batch, n_elements, *element)`, elements in the order of their flat index."""
        first = x.ndim - len(self.shape)
        return x.flatten(first, first + len(self.axes) - 1)

    @property
    def site_axis(self) -> int:
        """The axis of flat sites or links, counted from the right."""
        return -1 - len(self.elements.element_shape)

    @property
    def volume(self) -> int:
        """The number of sites."""
        return self.lattice.volume

    @property
    def dim(self) -> int:
        """The number of directions of the lattice."""
        return self.lattice.dim

    def batch(self, x: Tensor) -> torch.Size:
        """The batch axes of configurations."""
        return x.shape[: x.ndim - len(self.shape)]

    def check(self, x: Tensor) -> Tensor:
        """Return x, if it is a tensor of configurations.

        Raises:
            InvalidInput: x has another shape or another kind of numbers.
        """
        kinds = self.dtype().is_complex == x.is_complex() and (x.is_complex() or x.is_floating_point())
        if not kinds or x.ndim < len(self.shape) or x.shape[x.ndim - len(self.shape) :] != self.shape:
            kind = "complex" if self.dtype().is_complex else "real"
            axes = ", ".join(map(str, self.shape))
            raise InvalidInput(f"{self} holds {kind} tensors (*batch, {axes}), got {x.dtype} {tuple(x.shape)}")
        return x


@dataclasses.dataclass(frozen=True)
class GaugeField(Space):
    """Links of a gauge group on a `Lattice`, or on its extents. Haar's measure is both the measure and the prior.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 6))
        >>> space, space.prior(5, torch.Generator().manual_seed(0)).shape
        (GaugeField(SU(3), 4x6), torch.Size([5, 2, 4, 6, 3, 3]))
    """

    group: Group
    lattice: Lattice

    def __init__(self, group: Group, lattice: Lattice | Sequence[int]):
        if not isinstance(group, Group):
            raise InvalidInput(f"GaugeField(group, lattice) needs a gauge group such as SU(3), got {group!r}")
        object.__setattr__(self, "group", group)
        object.__setattr__(self, "lattice", Lattice(lattice))

    def prior(self, n, generator=None, *, dtype=None, device=None) -> Tensor:
        return self.group.haar(n, *self.axes, generator=generator, dtype=dtype, device=device)

    def log_prior(self, x: Tensor) -> Tensor:
        return x.real.new_zeros(self.batch(x))

    @property
    def elements(self) -> Group:
        return self.group

    @property
    def axes(self) -> tuple[int, ...]:
        return (self.lattice.dim, *self.lattice.extents)

    @property
    def facts(self) -> dict[str, Any]:
        return {"field": "gauge", "group": self.group.name, "extents": self.lattice.extents}

    def __repr__(self) -> str:
        return f"GaugeField({self.group}, {self.lattice})"


@dataclasses.dataclass(frozen=True)
class ScalarField(Space):
    """A real scalar field on a `Lattice`, or on its extents: Lebesgue's measure, a standard normal prior at each site.

    Example:
        >>> space = ScalarField((4, 6))
        >>> phi = space.prior(5, torch.Generator().manual_seed(0))
        >>> space, phi.shape, space.log_prior(phi).shape
        (ScalarField(4x6), torch.Size([5, 4, 6]), torch.Size([5]))
    """

    lattice: Lattice
    elements = Reals()

    def __init__(self, lattice: Lattice | Sequence[int]):
        object.__setattr__(self, "lattice", Lattice(lattice))

    def prior(self, n, generator=None, *, dtype=None, device=None) -> Tensor:
        return torch.randn(n, *self.shape, generator=generator, dtype=self.dtype(dtype), device=device)

    def log_prior(self, x: Tensor) -> Tensor:
        return -(x.square() + math.log(2 * math.pi)).flatten(-self.dim).sum(-1) / 2

    @property
    def axes(self) -> tuple[int, ...]:
        return self.lattice.extents

    @property
    def facts(self) -> dict[str, Any]:
        return {"field": "scalar", "extents": self.lattice.extents}

    def __repr__(self) -> str:
        return f"ScalarField({self.lattice})"


def check_space(space: Any, who: str) -> Space:
    """Return the space, if it is one; else raise InvalidInput, which says that `who` needs one."""
    if not isinstance(space, Space):
        raise InvalidInput(f"{who} needs the space of its fields, such as GaugeField(SU(3), (8, 8)), got {space!r}")
    return space


def gauge_field(space: Any) -> GaugeField:
    """Return the space, if it is one of links; else raise InvalidInput."""
    if not isinstance(space, GaugeField):
        needed = "a space of links is needed, such as GaugeField(SU(3), (8, 8))"
        raise InvalidInput(f"{needed}, got {space!r}: nothing is guessed from the shape of links")
    return space


def gauge_transform(links: Tensor, V: Tensor, space: GaugeField) -> Tensor:
    """U_mu(x) -> V(x) U_mu(x) V(x+mu)^-1 for a gauge function V.

    Shapes: V is a loop field `(*batch, *sites, *element)`; its batch axes broadcast.

    Raises:
        InvalidInput: links or gauge function do not fit the space.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.lattice import plaquette
        >>> space, generator = GaugeField(SU(3), (4, 4)), torch.Generator().manual_seed(0)
        >>> links, V = space.prior(2, generator), space.group.haar(4, 4, generator=generator)
        >>> before, after = (plaquette(x, 0, 1, space) for x in (links, gauge_transform(links, V, space)))
        >>> bool(torch.allclose(space.group.retrace(before), space.group.retrace(after), atol=1e-5))
        True
    """
    group, dim = gauge_field(space).group, space.dim
    shape = (*space.lattice.extents, *group.element_shape)
    if V.shape[max(0, V.ndim - len(shape)) :] != shape:
        raise InvalidInput(f"the gauge function must be (*batch, {', '.join(map(str, shape))}), got {tuple(V.shape)}")
    axis = dim - space.site_axis  # of the directions, counted from the right
    ahead = torch.stack([torch.roll(V, -1, mu - axis + 1) for mu in range(dim)], dim=-axis)
    return group.compose(group.compose(V.unsqueeze(-axis), space.check(links)), group.inverse(ahead))
