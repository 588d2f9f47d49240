"""The laws of layers, actions and observables, as assertions about your own.

    from lattice_flows.testing import assert_invertible, assert_logdet, assert_gauge_equivariant

Each raises an AssertionError with the size of the violation. `atol` is the largest allowed violation in any element;
the defaults are for float64.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from lattice_flows.actions import Action
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Space, gauge_transform
from lattice_flows.layers import ConjugationMap, Transform
from lattice_flows.operators import Operator


def _assert_small(violation: Tensor, atol: float, law: str) -> None:
    worst = violation.abs().max().item()
    if not worst <= atol:
        raise AssertionError(f"{law}: violated by {worst:.2e}, allowed {atol:.0e}")


def assert_invertible(transform: Transform, x: Tensor, space: Space, *, atol: float = 1e-10) -> None:
    """inverse(forward(x)) = x and forward(inverse(x)) = x, and the two log-determinants cancel.

    Example:
        >>> import torch
        >>> from lattice_flows import U1, flows
        >>> flow = flows.stripes(U1(), (4, 4), layers=2, seed=0, dtype=torch.float64)
        >>> assert_invertible(flow, flow.space.prior(5, dtype=torch.float64), flow.space)
    """
    for there, back, law in (
        (transform, transform.inverse, "inverse(forward(x)) = x"),
        (transform.inverse, transform, "forward(inverse(x)) = x"),
    ):
        y, logdet = there(x)
        returned, logdet_back = back(y)
        _assert_small(space.distance(returned, x), atol, law)
        _assert_small(logdet + logdet_back, atol, f"{law}: the log-determinants cancel")


def assert_logdet(transform: Transform, x: Tensor, space: Space, *, atol: float = 1e-8) -> None:
    """The log-determinant is that of the Jacobian by autograd, between the tangent spaces at x and at y.

    Shapes: x `(*shape)`, one configuration. The Jacobian has one row for each dimension of the tangent space.
    """
    y, logdet = transform(x)
    y = y.detach()

    def coordinates(components: Tensor) -> Tensor:
        moved, _ = transform(space.move(x, space.directions(x, components)))
        return space.components(space.difference(moved, y))

    origin = torch.zeros_like(space.components(x).real)
    jacobian = torch.autograd.functional.jacobian(coordinates, origin)
    exact = torch.linalg.slogdet(jacobian.reshape(origin.numel(), origin.numel())).logabsdet
    _assert_small(logdet - exact, atol, "logdet = log|det of the Jacobian|")


def assert_gauge_equivariant(
    transform: Transform, links: Tensor, space: GaugeField, *, atol: float = 1e-10, generator: Generator | None = None
) -> None:
    """The transform commutes with a random gauge transformation, and its log-determinant is invariant."""
    gauge = _random_gauge(links, space, generator)
    y, logdet = transform(links)
    moved, moved_logdet = transform(gauge(links))
    _assert_small(space.distance(moved, gauge(y)), atol, "f(gauge(x)) = gauge(f(x))")
    _assert_small(moved_logdet - logdet, atol, "logdet(gauge(x)) = logdet(x)")


def assert_gauge_invariant(
    function: Callable[[Tensor], Tensor],
    links: Tensor,
    space: GaugeField,
    *,
    atol: float = 1e-10,
    generator: Generator | None = None,
) -> None:
    """A function of the links is invariant under a random gauge transformation.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.actions import Wilson
        >>> space = GaugeField(SU(2), (4, 4))
        >>> assert_gauge_invariant(Wilson(space, beta=1.0), space.prior(5, dtype=torch.float64), space)
    """
    gauge = _random_gauge(links, space, generator)
    _assert_small(function(gauge(links)) - function(links), atol, "f(gauge(x)) = f(x)")


def _random_gauge(links: Tensor, space: GaugeField, generator) -> Callable[[Tensor], Tensor]:
    V = space.group.haar(*space.lattice.extents, generator=generator, dtype=links.dtype, device=links.device)
    return lambda field: gauge_transform(field, V, space)


def assert_force(function: Action | Operator, x: Tensor, *, atol: float = 1e-8) -> None:
    """The force of an action or operator is its derivative by autograd, element by element.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.actions import Wilson
        >>> space = GaugeField(SU(3), (4, 4))
        >>> assert_force(Wilson(space, beta=6.0), space.prior(5, dtype=torch.float64))
    """
    space, value = function.space, function.value if isinstance(function, Operator) else function
    force = space.components(function.force(x))
    with torch.enable_grad():
        components = torch.zeros_like(force).requires_grad_()
        (exact,) = torch.autograd.grad(value(space.move(x, space.directions(x, components))).sum(), components)
    _assert_small(force - exact, atol, "force = derivative")


def assert_conjugation_map(
    conjugation: ConjugationMap,
    loop: Tensor,
    params: Tensor,
    group: Group,
    *,
    boundary: Tensor | None = None,
    atol: float = 1e-10,
    generator: Generator | None = None,
) -> None:
    """h is invertible both ways with cancelling log-determinants, stays in the group, and h(V W V^-1) = V h(W) V^-1.

    Args:
        loop: elements W `(n, *element)`.
        params: `(n, n_params)`.
        boundary: the boundaries `(n, *element)` of a map that sees them; they turn along with the loops.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.planar.residual import ResidualMap
        >>> residual, generator = ResidualMap(SU(2)), torch.Generator().manual_seed(0)
        >>> loop, boundary = SU(2).haar(2, 10, generator=generator, dtype=torch.float64)
        >>> params = torch.randn(10, residual.n_params, generator=generator, dtype=torch.float64)
        >>> assert_conjugation_map(residual, loop, params, SU(2), boundary=boundary)
    """
    seen = () if boundary is None else (boundary,)
    for there, back in ((conjugation.forward, conjugation.inverse), (conjugation.inverse, conjugation.forward)):
        g, logdet = there(loop, params, *seen)
        moved = group.compose(g, loop)
        g_back, logdet_back = back(moved, params, *seen)
        _assert_small(group.distance(group.compose(g_back, moved), loop), atol, "the inverse of h undoes h")
        _assert_small(logdet + logdet_back, atol, "the log-determinants cancel")
        _assert_small(group.defect(moved), atol, "h(W) is in the group")
        V = group.haar(len(loop), generator=generator, dtype=loop.dtype, device=loop.device)
        turned = [group.compose(group.compose(V, x), group.inverse(V)) for x in (loop, g, *seen)]
        turned_g, turned_logdet = there(turned[0], params, *turned[2:])
        _assert_small(group.distance(turned_g, turned[1]), atol, "h(V W V^-1) = V h(W) V^-1")
        _assert_small(turned_logdet - logdet, atol, "logdet(V W V^-1) = logdet(W)")
