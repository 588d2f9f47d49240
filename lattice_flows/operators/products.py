"""Operators of products of loops, with their Laplacians: the terms of gradient flows and of control variates."""

import functools
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice.paths import path_product, rectangle
from lattice_flows.lattice.space import GaugeField
from lattice_flows.operators.algebra import (
    ONE,
    Loop,
    LoopAlgebra,
    Monomial,
    conjugate,
    loop_along,
    path_of,
    shortened,
    span,
)
from lattice_flows.operators.base import autograd_force


class LoopProducts:
    """W = sum over x, and over the images of a product of loops under the symmetries of the lattice, of Re prod tr.

    Each image counts once; an image and its complex conjugate are one. Lattices of any extents that are longer than the
    loops will do.

    Shapes: links `(*batch, dim, *sites, *element)`.

    Args:
        algebra: of the group and the dimension of the links.
        monomial: loops whose traces are multiplied.
        name: for tables.

    Raises:
        InvalidInput: the links are not those of the group and the dimension, or the lattice is too short.

    Example:
        >>> from lattice_flows import SU
        >>> algebra = LoopAlgebra(SU(3), 4)
        >>> plaquette = LoopProducts(algebra, algebra.plaquette, "plaquette")
        >>> cold = GaugeField(SU(3), (4, 4, 4, 4)).cold(1)
        >>> plaquette.value(cold), plaquette.laplacian(cold)  # 3 * 6 * 4^4, and -4 C_F = -16/3 times it
        (tensor([4608.]), tensor([-24576.]))
    """

    def __init__(self, algebra: LoopAlgebra, monomial: Monomial, name: str):
        self.group: Group = algebra.group
        self.algebra, self.name = algebra, name
        self.monomial = algebra.representative(monomial)
        self.derivative = algebra.laplacian({self.monomial: 1})
        """The Laplacian as coefficients of classes of monomials."""
        self._least = 1 + max(map(span, (self.monomial, *self.derivative)))

    def __repr__(self) -> str:
        return f"{self.name} of {self.group} in {self.algebra.dim} dimensions"

    def value(self, links: Tensor) -> Tensor:
        """W `(*batch,)`."""
        return self._sum(links, {self.monomial: 1})

    def force(self, links: Tensor) -> Tensor:
        """The tangent field F of the shape of links with W(move(U, t X)) = W(U) + t inner(X, F) + O(t^2)."""
        return autograd_force(self.value, links, self.space_of(links))

    def laplacian(self, links: Tensor) -> Tensor:
        """sum over links and a of the second derivatives of W along the generators T_a, `(*batch,)`.

        The generators have inner(T_a, T_b) = delta_ab: tr(T_a T_b) = -1/2 delta_ab for SU(N).
        """
        return self._sum(links, self.derivative)

    def _sum(self, links: Tensor, coefficients: Mapping[Monomial, Fraction | int]) -> Tensor:
        space, traces = self.space_of(links), {}
        axes = tuple(range(-self.algebra.dim, 0))

        def trace(loop: Loop) -> Tensor:
            begin, path = path_of(loop)
            if path not in traces:
                traces[path] = self.group.n * self.group.trace(path_product(links, path, space))
            return traces[path].roll([-step for step in begin], axes)

        total = torch.zeros((), dtype=space.elements.element_dtype(links.dtype).to_real(), device=links.device)
        for monomial, coefficient in coefficients.items():
            for image in self.algebra.images(monomial) if monomial else ():
                product = math.prod((trace(loop) for loop in image[1:]), start=trace(image[0]))
                total = total + float(coefficient) * product.real.sum(axes)
            if not monomial:
                total = total + float(coefficient) * space.volume
        return total

    def space_of(self, links: Tensor) -> GaugeField:
        """The space of these links, if the operator is one of them; else InvalidInput."""
        dim, element = self.algebra.dim, len(self.group.element_shape)
        sites = links.shape[: links.ndim - element][-dim:]
        if links.ndim < dim + 1 + element or min(sites) < self._least:
            raise InvalidInput(
                f"{self} needs links (*batch, {dim}, *sites, *element) of extents >= {self._least}, got "
                f"{tuple(links.shape)}"
            )
        space = GaugeField(self.group, sites)
        space.check(links)
        return space


@functools.cache
def laplacian_matrix(sums: tuple[tuple[LoopProducts, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """M and b, by the algebra of loops, with Lap W_i = sum_j M_ij W_j + b_i V for sums W_i of operators.

    Shapes: `(n, n)` and `(n,)`, float64; an empty sum has zeros.

    Example:
        >>> from lattice_flows import SU
        >>> plaquette = next_to_leading(SU(3), 4)[0]
        >>> laplacian_matrix(((plaquette,),))
        (array([[-5.33333333]]), array([0.]))
    """
    matrix, constant = np.zeros((len(sums), len(sums))), np.zeros(len(sums))
    for row, own in enumerate(sums):
        for column, other in enumerate(sums):
            for target in other:  # the same for each of them, or the sums were not closed
                matrix[row, column] = sum(operator.derivative.get(target.monomial, 0) for operator in own)
        constant[row] = sum(operator.derivative.get(ONE, 0) for operator in own)
    return matrix, constant


@functools.cache
def next_to_leading(group: Group, dim: int) -> tuple[LoopProducts, ...]:
    """The operators of the next-to-leading order of the flow that trivialises the Wilson action, plaquette first.

    With plaquettes P and P' that share one link, begin there and follow it in the same direction, lying in one plane
    ("planar") or in two ("bent", in three and more dimensions): Re tr P; Re tr P P'^-1, the rectangle and the chair;
    Re tr P P'; Re tr P tr P'; Re tr P (tr P')*; Re (tr P)^2; Re tr P^2; |tr P|^2. The set is closed under Laplacians.
    For U(1) products of loops are loops, and what is the same is left out. The last one, in three and more dimensions,
    is the other loop of six links, "twisted" around a cube; the flow has it one order later.

    Args:
        group: U(1) or SU(N).
        dim: the number of dimensions, >= 2.

    Raises:
        InvalidInput: less than two dimensions, or a group without `fierz`.

    Source: M. Luscher, 0907.5491, section 3.

    Example:
        >>> from lattice_flows import SU
        >>> [operator.name for operator in next_to_leading(SU(3), 4)][:4]
        ['plaquette', 'rectangle', 'chair', 'tr PP planar']
    """
    algebra = LoopAlgebra(group, dim)
    plaquette = loop_along(rectangle(0, 1, 1, 1), dim)
    others = {"planar": rectangle(0, 1, 1, -1)} | ({"bent": rectangle(0, 1, 2, 1)} if dim > 2 else {})
    pairs = {name: (plaquette, loop_along(path, dim)) for name, path in others.items()}
    against = {name: (plaquette, *conjugate((other,))) for name, (_, other) in pairs.items()}
    long = {"planar": "rectangle", "bent": "chair"}
    found: dict[str, Monomial] = {"plaquette": (plaquette,)}
    if not group.abelian:
        found |= {long[name]: (shortened(one + two),) for name, (one, two) in against.items()}
        found |= {f"tr PP {name}": (one + two,) for name, (one, two) in pairs.items()}
    found |= {f"tr P tr P {name}": pair for name, pair in pairs.items()}
    found |= {f"tr P tr P* {name}": pair for name, pair in against.items()}
    found["tr P squared"] = (plaquette, plaquette)
    if not group.abelian:
        found |= {"tr PP": (plaquette + plaquette,), "tr P tr P*": (plaquette, *conjugate((plaquette,)))}
    if dim > 2:
        found["twisted"] = (loop_along(((0, 1), (1, 1), (2, 1), (0, -1), (1, -1), (2, -1)), dim),)
    return tuple(LoopProducts(algebra, monomial, name) for name, monomial in found.items())
