"""What a gauge group can do; everything else in the package is written against this interface alone."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput


class Group(ABC):
    """A compact gauge group: how its elements are drawn, multiplied, diagonalised, and moved by its algebra.

    A group is a value: it holds no tensors and no device, and `SU(3) == SU(3)`. Elements are plain tensors whose
    trailing axes are `element_shape` (see the legend in `lattice_flows.fields.layout`); every method broadcasts over
    the axes before them. The inner product of the algebra is `inner`, for which the generators are orthonormal.

    Densities are relative to the Haar measure, normalised to total volume 1.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that configs use, such as `SU(3)`."""

    @property
    @abstractmethod
    def n(self) -> int:
        """The dimension N of the fundamental representation; 1 for U(1)."""

    @property
    @abstractmethod
    def element_shape(self) -> tuple[int, ...]:
        """The trailing axes of an element: `()` for U(1), `(N, N)` for SU(N)."""

    @abstractmethod
    def element_dtype(self, dtype: torch.dtype | None = None) -> torch.dtype:
        """The dtype of elements in the precision of `dtype` (real or complex; default: torch's default dtype)."""

    @abstractmethod
    def haar(
        self,
        *shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Independent elements `(*shape, *element)` from the Haar measure. `dtype` names the precision."""

    @abstractmethod
    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Identity elements `(*shape, *element)`."""

    @abstractmethod
    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The product a b."""

    @abstractmethod
    def inverse(self, a: Tensor) -> Tensor:
        """The inverse of a."""

    @abstractmethod
    def trace(self, a: Tensor) -> Tensor:
        """tr(a) / N, complex, `(...)`."""

    @abstractmethod
    def retrace(self, a: Tensor) -> Tensor:
        """Re tr(a) / N, real, `(...)`."""

    @abstractmethod
    def class_features(self, a: Tensor) -> Tensor:
        """Real functions `(..., n_class_features)` of the conjugacy class of a, which together determine the class."""

    @property
    @abstractmethod
    def n_class_features(self) -> int:
        """How many numbers `class_features` gives for an element."""

    @abstractmethod
    def exp(self, algebra: Tensor) -> Tensor:
        """The exponential map from the algebra to the group."""

    @abstractmethod
    def project_algebra(self, m: Tensor) -> Tensor:
        """The part of m that lies in the algebra."""

    @abstractmethod
    def random_algebra(
        self,
        *shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Algebra elements `(*shape, *element)` with density exp(-inner(X, X) / 2): the momenta of HMC."""

    @abstractmethod
    def generators(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """A basis of the algebra `(dimension, *element)`, orthonormal under `inner`."""

    @abstractmethod
    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """The inner product `(...)` of algebra elements."""

    @abstractmethod
    def retrace_gradient(self, a: Tensor) -> Tensor:
        """The algebra element F with retrace(exp(t X) a) = retrace(a) + t inner(X, F) + O(t^2)."""

    @abstractmethod
    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        """The algebra element F with L(exp(t X) a) = L(a) + t inner(X, F) + O(t^2).

        `gradient` is what `torch.autograd.grad(L, a)` returns.
        """

    @abstractmethod
    def defect(self, a: Tensor) -> Tensor:
        """How far `(...)` each element is from the group: the largest violation of its defining equations."""

    @abstractmethod
    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The phases `(..., N)` of the eigenvalues, brought to the alcove, and the frame of eigenvectors.

        The phases are differentiable. The frame carries a free phase per eigenvector and is not: use
        `lattice_flows.kernels.spectrum.displacement` where the frame turns with a.
        """

    @abstractmethod
    def rebuild(self, phases: Tensor, frame: Tensor) -> Tensor:
        """The element with these eigenphases in this frame, the inverse of `eigenphases`."""

    @abstractmethod
    def power(self, a: Tensor, exponent: float) -> Tensor:
        """The principal real power: the phases, as `eigenphases` gives them, times the exponent, in the same frame."""

    @abstractmethod
    def log_vandermonde(self, phases: Tensor) -> Tensor:
        """Log-density `(...)` of the eigenphases under the Haar measure, up to a constant."""

    def __str__(self) -> str:
        return self.name


def check_precision(dtype: torch.dtype | None) -> torch.dtype:
    """The real dtype float32 or float64 that `dtype` (real or complex, default: torch's) names the precision of."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype):
        raise InvalidInput(f"dtype must be a torch.dtype such as torch.float64, got {dtype!r}")
    real = dtype.to_real() if dtype.is_complex else dtype
    if real not in (torch.float32, torch.float64):
        raise InvalidInput(f"dtype must be float32 or float64 (or its complex partner), got {dtype}")
    return real
