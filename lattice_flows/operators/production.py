"""Sums of loop operators that treat all directions alike, on the kernel `link_operators`: fast, and for production."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels.link_operators import OPERATORS, available, link_operators, link_steps
from lattice_flows.lattice import GaugeField
from lattice_flows.operators.pairs import NextToLeading
from lattice_flows.operators.products import LoopProducts, laplacian_matrix, next_to_leading

log = logging.getLogger(__name__)

CLASSES: tuple[tuple[str, ...], ...] = (
    ("plaquette",),
    ("rectangle", "chair"),
    ("tr PP planar", "tr PP bent"),
    ("tr P tr P planar", "tr P tr P bent"),
    ("tr P tr P* planar", "tr P tr P* bent"),
    ("tr P squared",),
    ("tr PP",),
    ("tr P tr P*",),
)
"""The operators of `next_to_leading` in each sum of the kernel, in its order."""
ABELIAN = (CLASSES[0], CLASSES[4], CLASSES[3], (), (), CLASSES[5], (), ())
"""The same for U(1), without what is there twice."""


class VectorField(NamedTuple):
    """The force `(*batch, *shape)` of a sum of operators and its divergence `(*batch,)`, float64.

    Beside them, values and Laplacians of each operator `(*batch, n)`, float64.
    """

    force: Tensor
    divergence: Tensor
    values: Tensor
    laplacians: Tensor


class WeightedSum:
    """W = a weighted sum of the operators of `next_to_leading`, planar and bent pairs of plaquettes taken together.

    Lattices of any extents >= 3 will do, for the plaquette >= 2. GPUs and N > 8 run the reference of the kernel, with
    one warning.

    Shapes: links `(*batch, dim, *sites, *element)`.

    Args:
        name: for tables.
        weights: of the sums in `CLASSES`, for U(1) of those in `ABELIAN`.

    Raises:
        InvalidInput: a weight of a sum that the group does not have; links that do not fit.
    """

    def __init__(self, group: Group, dim: int, name: str, weights: Sequence[float]):
        self.group, self.dim, self.name, self.weights = group, dim, name, np.array(weights, dtype=np.float64)
        sums = _sums(group, dim)
        if self.weights.shape != (OPERATORS,) or any(self.weights[k] and not sums[k] for k in range(OPERATORS)):
            raise InvalidInput(f"{group} in {dim} dimensions has no sums of operators for weights {list(weights)}")
        self.leading = not self.weights[1:].any()
        """Whether W is a multiple of the plaquette."""

    def __repr__(self) -> str:
        return f"{self.name} of {self.group} in {self.dim} dimensions"

    def value(self, links: Tensor) -> Tensor:
        """W `(*batch,)`, float64."""
        return vector_field((self,), (1.0,), links).values[..., 0]

    def force(self, links: Tensor) -> Tensor:
        """The tangent field F of the shape of links with W(move(U, t X)) = W(U) + t inner(X, F) + O(t^2)."""
        return vector_field((self,), (1.0,), links).force

    def laplacian(self, links: Tensor) -> Tensor:
        """sum over links and a of the second derivatives of W, as `LoopProducts.laplacian`, `(*batch,)`, float64."""
        return vector_field((self,), (1.0,), links).divergence


def vector_field(
    operators: Sequence[WeightedSum], coefficients: Sequence[float] | Tensor, links: Tensor
) -> VectorField:
    """The force of sum_i c_i W_i and its divergence sum_i c_i Lap W_i, in one call of the kernel.

    It has no derivative. A plaquette alone takes a third of the time.

    Shapes: coefficients `(n,)`, or `(*batch, n)` for each configuration its own.

    Raises:
        InvalidInput: operators of several groups or dimensions, or what does not fit them.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> operators = production(SU(3), 4)
        >>> field = vector_field(operators, (0.05, 0.003), GaugeField(SU(3), (4, 4, 4, 4)).cold(1))
        >>> field.divergence, field.values, float(field.force.abs().max())
        (tensor([-491.5200], dtype=torch.float64), tensor([[4608.,    0.]], dtype=torch.float64), 0.0)
    """
    space, flat, weights, evaluated = _prepared(tuple(operators), coefficients, links)
    force, sums = link_operators(flat, space.lattice.extents, weights)
    return VectorField(force.reshape(links.shape), *evaluated(sums))


class Stepped(NamedTuple):
    """Links `(*batch, *shape)` after a step, and the divergence of the force at its midpoint `(*batch,)`, float64."""

    links: Tensor
    divergence: Tensor


def midpoint_step(operators: Sequence[WeightedSum], coefficients: Sequence[float] | Tensor, links: Tensor) -> Stepped:
    """A step by the midpoint rule along the force F of sum_i c_i W_i, in one call of the kernel.

    V = exp(F_0(U) / 2) U,   U' = exp(F(V)) U, restored, where F_0 is the part of F that plaquettes have.

    It has no derivative. Shapes and errors are as for `vector_field`.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> cold = GaugeField(SU(3), (4, 4, 4, 4)).cold(1)
        >>> midpoint_step(production(SU(3), 4), (0.05, 0.003), cold).divergence  # that of `vector_field`, at rest
        tensor([-491.5200], dtype=torch.float64)
    """
    space, flat, weights, evaluated = _prepared(tuple(operators), coefficients, links)
    moved, sums = link_steps(flat, space.lattice.extents, weights[:, :1] / 2, weights)
    return Stepped(moved.reshape(links.shape), evaluated(sums)[0])


def _prepared(
    operators: tuple[WeightedSum, ...], coefficients: Sequence[float] | Tensor, links: Tensor
) -> tuple[GaugeField, Tensor, Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
    """The space; links with one batch axis and the kernel's weights of them; divergence, values, Laplacians by sums."""
    group, dim, leading, mix, change, constant = _table(operators, links.device)
    space = next_to_leading(group, dim)[0 if leading else 1].space_of(links)
    batch, flat = space.batch(links), links.reshape(-1, *space.shape)
    c = torch.as_tensor(coefficients, dtype=torch.float64, device=links.device)
    if c.shape not in ((len(mix),), (*batch, len(mix))):
        raise InvalidInput(
            f"coefficients must be ({len(mix)},) or {(*batch, len(mix))} for these operators and links, got "
            f"{tuple(c.shape)}"
        )
    if not available(space.lattice.extents, group.n, flat):
        _say(f"{group} on {space.lattice}, {links.device}")

    def evaluated(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sums, own = sums.reshape(*batch, -1), c @ change
        # one by one: the last digits of a matrix product depend on the size of the batch
        divergence = sum((sums[..., k] * own[..., k] for k in range(sums.shape[-1])), space.volume * (c @ constant))
        return divergence, sums @ mix.T, sums @ change.T + constant * space.volume

    return space, flat, (c @ mix).broadcast_to(*batch, mix.shape[1]).reshape(len(flat), -1), evaluated


def derivatives(operators: Sequence[WeightedSum], links: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """The Laplacians of operators, and their derivatives inner(X, force) along a tangent field X.

    Both have derivatives of their own. `vector_field` has none.

    Shapes: links and tangent `(*batch, dim, *sites, *element)` -> both `(*batch, n)`, float64.
    """
    together, weights = _singly(tuple(operators), links.device)
    laplacians, slopes = together.derivatives(links, tangent)
    return laplacians @ weights, slopes @ weights


@functools.cache
def merged(group: Group, dim: int) -> tuple[WeightedSum, ...]:
    """The operators of `next_to_leading`, planar and bent pairs taken together: a set closed under Laplacians.

    Args and errors: as for `next_to_leading`.

    Example:
        >>> from lattice_flows import SU, U1
        >>> [operator.name for operator in merged(SU(3), 4)][:3]
        ['plaquette', 'rectangle + chair', 'tr PP planar + tr PP bent']
        >>> len(merged(SU(3), 4)), len(merged(U1(), 4))
        (8, 4)
    """
    sums = _sums(group, dim)
    units = np.eye(OPERATORS)
    return tuple(
        WeightedSum(group, dim, " + ".join(own.name for own in sums[k]), units[k]) for k in range(OPERATORS) if sums[k]
    )


@functools.cache
def production(group: Group, dim: int) -> tuple[WeightedSum, WeightedSum]:
    """The plaquette and Q', which near the continuum take what the whole set of `next_to_leading` takes.

    With plaquettes P and P' that share a link, begin there and follow it in the same direction, Q' is the sum over all
    such pairs of Re tr P P'^-1 - Re tr P P': nearly the square of the force of the plaquette.

    Args and errors: as for `next_to_leading`.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> plaquette, square = production(SU(3), 4)
        >>> cold = GaugeField(SU(3), (4, 4, 4, 4)).cold(1)
        >>> plaquette.value(cold), plaquette.laplacian(cold)  # -4 C_F times the value
        (tensor([4608.], dtype=torch.float64), tensor([-24576.], dtype=torch.float64))
        >>> square.value(cold), square.laplacian(cold)
        (tensor([0.], dtype=torch.float64), tensor([245760.], dtype=torch.float64))
    """
    return (
        WeightedSum(group, dim, "plaquette", [1, 0, 0, 0, 0, 0, 0, 0]),
        WeightedSum(group, dim, "Q'", [0, 1, -1, 0, 0, 0, 0, 0]),
    )


@functools.cache
def laplacian_sums(operators: tuple[WeightedSum, ...]) -> tuple[tuple[WeightedSum, ...], Tensor]:
    """Operators V_i and numbers b_i `(n,)`, float64, with Lap W_i = V_i + b_i times the number of sites."""
    group, dim = operators[0].group, operators[0].dim
    matrix, constants = laplacian_matrix(_sums(group, dim))
    sums = tuple(WeightedSum(group, dim, f"Lap {own.name}", own.weights @ matrix) for own in operators)
    return sums, torch.tensor([own.weights @ constants for own in operators])


@functools.cache
def _sums(group: Group, dim: int) -> tuple[tuple[LoopProducts, ...], ...]:
    """The operators in each sum of the kernel."""
    known = {operator.name: operator for operator in next_to_leading(group, dim)}
    return tuple(
        tuple(known[name] for name in names if name in known) for names in (ABELIAN if group.abelian else CLASSES)
    )


@functools.lru_cache(maxsize=64)
def _table(operators: tuple[WeightedSum, ...], device: torch.device) -> tuple[Group, int, bool, Tensor, Tensor, Tensor]:
    """The group, the dimension, whether all are plaquettes; the operators and their Laplacians by the kernel's sums."""
    if len({(operator.group, operator.dim) for operator in operators}) != 1:
        raise InvalidInput(f"a vector field needs operators of one group and dimension, got {list(operators)}")
    first, leading = operators[0], all(operator.leading for operator in operators)
    matrix, constant = laplacian_matrix(_sums(first.group, first.dim))
    mix, used = np.stack([operator.weights for operator in operators]), slice(1 if leading else OPERATORS)
    tables = mix[:, used], (mix @ matrix)[:, used], mix @ constant
    own, change, volume = (torch.tensor(table, device=device) for table in tables)
    return first.group, first.dim, leading, own, change, volume


@functools.lru_cache(maxsize=64)
def _singly(operators: tuple[WeightedSum, ...], device: torch.device) -> tuple[NextToLeading, Tensor]:
    """The operators of `next_to_leading`, and the weight `(n_next_to_leading, n)` of each in some operators."""
    first = operators[0]
    together, sums = NextToLeading(first.group, first.dim), _sums(first.group, first.dim)
    weights = np.zeros((len(together.operators), len(operators)))
    for column, operator in enumerate(operators):
        for weight, own in zip(operator.weights, sums, strict=True):
            weights[[together.operators.index(single) for single in own], column] = weight
    return together, torch.tensor(weights, device=device)


@functools.cache
def _say(what: str) -> None:
    log.warning("no kernel for loop operators of %s: their PyTorch reference runs, which is slower", what)
