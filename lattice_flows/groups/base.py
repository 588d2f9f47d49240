"""The interface of gauge groups, which the rest of the package uses alone; and real numbers as values of a field."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NoReturn

import torch
from torch import Generator, Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_sums import Orientations

Device = torch.device | str | None


class Elements(ABC):
    """The values of a field: elements of a group, which its algebra moves.

    Elements are plain tensors with the trailing axes `element_shape` (see the legend in
    `lattice_flows.lattice.layout`). Every method broadcasts over the axes before them.
    """

    @property
    @abstractmethod
    def element_shape(self) -> tuple[int, ...]:
        """The trailing axes of an element: `()` for U(1), `(N, N)` for SU(N)."""

    @abstractmethod
    def element_dtype(self, dtype: torch.dtype | None = None) -> torch.dtype:
        """The dtype of elements in the precision of `dtype` (real or complex; default: torch's default dtype)."""

    @abstractmethod
    def identity(self, *shape: int, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """Identity elements `(*shape, *element)`."""

    @abstractmethod
    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The product a b."""

    @abstractmethod
    def inverse(self, a: Tensor) -> Tensor:
        """The inverse of a."""

    @abstractmethod
    def exp(self, algebra: Tensor) -> Tensor:
        """The exponential map from the algebra to the group."""

    @abstractmethod
    def project_algebra(self, m: Tensor) -> Tensor:
        """The part of m that lies in the algebra."""

    @abstractmethod
    def random_algebra(
        self, *shape: int, generator: Generator | None = None, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Algebra elements `(*shape, *element)` with density exp(-inner(X, X) / 2): the momenta of HMC."""

    @abstractmethod
    def generators(self, *, dtype: torch.dtype | None = None, device: Device = None) -> Tensor:
        """A basis of the algebra `(dimension, *element)`, orthonormal under `inner`."""

    @abstractmethod
    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """The inner product `(...)` of algebra elements."""

    @abstractmethod
    def bracket(self, x: Tensor, y: Tensor) -> Tensor:
        """The commutator [x, y] of algebra elements."""

    @abstractmethod
    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        """The algebra element F with L(exp(t X) a) = L(a) + t inner(X, F) + O(t^2), from autograd's `gradient`."""

    @abstractmethod
    def algebra_derivative(self, a: Tensor, force: Tensor) -> Tensor:
        """A gradient, as autograd gives it, whose `algebra_gradient` at a is the algebra element `force`."""

    @abstractmethod
    def restore(self, a: Tensor) -> Tensor:
        """The element a without the rounding errors that took it out of the group."""

    @abstractmethod
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The largest difference `(...)` between entries of two elements."""


class Reals(Elements):
    """The real numbers under addition: the values of a scalar field, which are their own algebra."""

    element_shape = ()

    def element_dtype(self, dtype=None) -> torch.dtype:
        return check_precision(dtype)

    def identity(self, *shape, dtype=None, device=None) -> Tensor:
        return torch.zeros(shape, dtype=self.element_dtype(dtype), device=device)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def inverse(self, a: Tensor) -> Tensor:
        return -a

    def exp(self, algebra: Tensor) -> Tensor:
        return algebra

    def project_algebra(self, m: Tensor) -> Tensor:
        return m

    def random_algebra(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=self.element_dtype(dtype), device=device)

    def generators(self, *, dtype=None, device=None) -> Tensor:
        return torch.ones(1, dtype=self.element_dtype(dtype), device=device)

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def bracket(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        return gradient

    def algebra_derivative(self, a: Tensor, force: Tensor) -> Tensor:
        return force

    def restore(self, a: Tensor) -> Tensor:
        return a

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs()


class Group(Elements):
    """A compact gauge group: it draws, multiplies and diagonalises elements, and moves them by its algebra.

    A group is a value: it holds no tensors and no device, and `SU(3) == SU(3)`. Densities are relative to the Haar
    measure, normalised to total volume 1.

    To add a group of matrices, subclass `MatrixGroup` in a file of its own and `register` its name. A group may lack
    the methods that are not abstract; a call then raises InvalidInput.
    """

    abelian: bool = False
    """Whether all elements commute."""
    swept: bool = False
    """Whether `lattice_flows.kernels.link_sweeps` makes the heat bath and the over-relaxation of this group."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that configs use, such as `SU(3)`."""

    @property
    @abstractmethod
    def n(self) -> int:
        """The dimension N of the fundamental representation; 1 for U(1)."""

    @abstractmethod
    def haar(
        self, *shape: int, generator: Generator | None = None, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Independent elements `(*shape, *element)` from the Haar measure, in the precision of `dtype`."""

    @abstractmethod
    def trace(self, a: Tensor) -> Tensor:
        """tr(a) / N, complex, `(...)`."""

    @abstractmethod
    def retrace(self, a: Tensor) -> Tensor:
        """Re tr(a) / N, real, `(...)`."""

    @abstractmethod
    def class_features(self, a: Tensor) -> Tensor:
        """Real functions `(..., n_class_features)` of the conjugacy class of a; together they determine the class."""

    @property
    @abstractmethod
    def n_class_features(self) -> int:
        """The number of class features of an element."""

    def project_sum(self, elements: Iterable[Tensor]) -> Tensor:
        """The sum of `project_algebra` over several elements."""
        return functools.reduce(torch.add, map(self.project_algebra, elements))

    @abstractmethod
    def retrace_gradient(self, a: Tensor) -> Tensor:
        """The algebra element F with retrace(exp(t X) a) = retrace(a) + t inner(X, F) + O(t^2)."""

    @abstractmethod
    def defect(self, a: Tensor) -> Tensor:
        """The largest violation `(...)` of the equations that define the group."""

    @property
    @abstractmethod
    def bare_coupling(self) -> float:
        """beta g^2, the product of the Wilson action's beta and the squared bare coupling.

        With this beta the action is sum_{x, mu < nu} inner(F, F) / 2 to leading order in F, P_{mu nu} = exp(F).

        Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.
        """

    @abstractmethod
    def link_products(self, links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
        """Ordered products `(*batch, n, *element)` of links along n walks; differentiable in the links.

        The table `(steps, n)`, int64, has indices of links `(*batch, n_links, *element)`. `forward` says for every step
        whether it follows the link or goes against it.
        """

    @abstractmethod
    def link_sums(self, links: Tensor, tables: Tensor, forward: Orientations) -> Tensor:
        """Sums S `(*batch, n, *element)` over walks of products of links, such as staples; complex for every group.

        Arguments are as those of `link_products`, with one `(steps, n)` table and its orientations for each walk.
        """

    @abstractmethod
    def matrices(self, a: Tensor) -> Tensor:
        """Elements as unitary matrices `(..., N, N)`, complex for every group."""

    @abstractmethod
    def algebra_matrices(self, x: Tensor) -> Tensor:
        """Algebra elements as the anti-Hermitian matrices X `(..., N, N)` whose exponentials are `matrices(exp(x))`."""

    @abstractmethod
    def alignment(self, a: Tensor, sums: Tensor) -> Tensor:
        """Re tr(U S) `(...)` of elements U and sums S of `link_sums`."""

    @abstractmethod
    def link_forces(self, links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
        """The sum of `retrace_gradient` over the loops of the links `active` `(n,)` and the walks that close them."""

    # methods that a group may lack

    def project_group(self, sums: Tensor) -> Tensor:
        """The elements `(..., *element)` that sums of `link_sums` point to; those of multiples c > 0 of elements.

        It commutes with multiplication by elements from either side, so smeared links stay gauge covariant.
        """
        self._lacks("projection of sums", "smear by stout, which needs none")

    def heat_bath_numbers(self) -> tuple[int, ...]:
        """The shape of the uniform numbers of one link in `heat_bath`."""
        self._lacks("heat bath", "use hmc or metropolis")

    def heat_bath(self, a: Tensor, sums: Tensor, strength: float, uniforms: Tensor) -> Tensor:
        """Move each element by a step that leaves its density exp(strength Re tr(U S)) invariant.

        Shapes: a `(..., *element)`, sums as of `link_sums`, uniforms `(..., *heat_bath_numbers())` in [0, 1).
        """
        self._lacks("heat bath", "use hmc or metropolis")

    def over_relaxation(self, a: Tensor, sums: Tensor) -> Tensor:
        """Move each element far away by a step that keeps Re tr(U S) and the Haar measure."""
        self._lacks("over-relaxation", "use hmc or metropolis")

    @property
    def fierz(self) -> tuple[Fraction, Fraction]:
        """(A, B) in sum_a (T_a)_ij (T_a)_kl = A delta_il delta_jk + B delta_ij delta_kl, for the `generators` T_a."""
        self._lacks("identity of Fierz")

    def n_spectral_params(self, bins: int) -> int:
        """The number of parameters of `spectral_flow`."""
        self._lacks("spectral map", "give the coupling a conjugation map of your own")

    def spectral_flow(self, a: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """g = h(a) a^-1 and log|dh/da| of a conjugation-equivariant map h of splines, or the same of h^-1.

        Shapes: a `(..., *element)`, params `(..., n_spectral_params(bins))` -> `(..., *element)`, `(...)`.
        """
        self._lacks("spectral map", "give the coupling a conjugation map of your own")

    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The phases `(..., N)` of the eigenvalues, brought to the alcove, and the frame of eigenvectors.

        The phases are differentiable. The frame is not, as each eigenvector has a free phase: see
        `lattice_flows.kernels.spectrum.displacement`.
        """
        self._lacks("eigenphases")

    def power(self, a: Tensor, exponent: float) -> Tensor:
        """The principal real power: the element with the `eigenphases` times the exponent, in the same frame."""
        self._lacks("real powers")

    def character_indices(self, labels: Tensor) -> Tensor:
        """The indices that `characters` takes, from labels of representations `(n, rank)`."""
        self._lacks("characters")

    def characters(self, a: Tensor, indices: Tensor) -> Tensor:
        """Re chi_r(a) `(..., n)` in float64 for the representations of `character_indices`."""
        self._lacks("characters")

    def _lacks(self, what: str, remedy: str = "") -> NoReturn:
        raise InvalidInput(f"{self} has no {what} in this package{': ' if remedy else ''}{remedy}")

    def __str__(self) -> str:
        return self.name


def check_precision(dtype: torch.dtype | None) -> torch.dtype:
    """The real dtype, float32 or float64, in the precision of `dtype` (real or complex; default: torch's)."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype):
        raise InvalidInput(f"dtype must be a torch.dtype such as torch.float64, got {dtype!r}")
    real = dtype.to_real() if dtype.is_complex else dtype
    if real not in (torch.float32, torch.float64):
        raise InvalidInput(f"dtype must be float32 or float64 (or its complex partner), got {dtype}")
    return real
