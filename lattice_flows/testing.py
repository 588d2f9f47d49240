"""The laws that layers, actions and observables obey, as assertions for anyone's own.

    from lattice_flows.testing import assert_invertible, assert_logdet, assert_gauge_equivariant

Each raises an AssertionError that says by how much the law is broken. `atol` is the largest violation allowed in any
element; the defaults are for float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.fields import gauge_transform
from lattice_flows.fields.layout import extents, infer_dim
from lattice_flows.groups import Group
from lattice_flows.layers import ConjugationMap, Transform

__all__ = [
    "assert_conjugation_map",
    "assert_force",
    "assert_gauge_equivariant",
    "assert_gauge_invariant",
    "assert_invertible",
    "assert_logdet",
    "distance",
]


def distance(a: Tensor, b: Tensor, group: Group) -> Tensor:
    """How far `(...)` apart two group elements are: the largest element of |a - b|, or for U(1) the angle between."""
    if group.element_shape:
        return (a - b).abs().amax((-2, -1))
    return group.compose(a, group.inverse(b)).abs()


def _assert_small(violation: Tensor, atol: float, law: str) -> None:
    worst = violation.abs().max().item()
    if not worst <= atol:
        raise AssertionError(f"{law}: violated by {worst:.2e}, allowed {atol:.0e}")


def assert_invertible(transform: Transform, links: Tensor, group: Group, *, atol: float = 1e-10) -> None:
    """inverse(forward(x)) = x and forward(inverse(x)) = x, and the two log-determinants cancel.

    Example:
        >>> import torch
        >>> from lattice_flows import U1, flows
        >>> flow = flows.stripes(U1(), (4, 4), layers=2, seed=0, dtype=torch.float64)
        >>> assert_invertible(flow, U1().haar(2, 4, 4, dtype=torch.float64), U1())
    """
    for there, back, law in (
        (transform, transform.inverse, "inverse(forward(x)) = x"),
        (transform.inverse, transform, "forward(inverse(x)) = x"),
    ):
        y, logdet = there(links)
        x, logdet_back = back(y)
        _assert_small(distance(x, links, group), atol, law)
        _assert_small(logdet + logdet_back, atol, f"{law}: the log-determinants cancel")


def assert_logdet(transform: Transform, links: Tensor, group: Group, *, atol: float = 1e-8) -> None:
    """The log-determinant is that of the Jacobian by autograd, between the algebras at x and at y.

    Args:
        links: one configuration `(dim, *sites, *element)`; the Jacobian has dim * V * (dimension of the group) rows.
    """
    generators = group.generators(dtype=links.real.dtype, device=links.device)
    image, logdet = transform(links)
    image = image.detach()
    e = len(group.element_shape)
    shape = links.shape[: links.ndim - e]

    def coordinates(moved: Tensor) -> Tensor:
        algebra = torch.tensordot(moved.to(links.dtype), generators, dims=1)
        y, _ = transform(group.compose(group.exp(algebra), links))
        away = group.project_algebra(group.compose(y, group.inverse(image)))
        return group.inner(away.unsqueeze(-1 - e), generators)

    origin = torch.zeros(*shape, len(generators), dtype=links.real.dtype, device=links.device)
    jacobian = torch.autograd.functional.jacobian(coordinates, origin)
    exact = torch.linalg.slogdet(jacobian.reshape(origin.numel(), origin.numel())).logabsdet
    _assert_small(logdet - exact, atol, "logdet = log|det of the Jacobian|")


def assert_gauge_equivariant(
    transform: Transform,
    links: Tensor,
    group: Group,
    *,
    atol: float = 1e-10,
    generator: torch.Generator | None = None,
    dim: int | None = None,
) -> None:
    """The transform commutes with a random gauge transformation, which leaves its log-determinant as it is."""
    gauge = _random_gauge(links, group, generator, dim)
    y, logdet = transform(links)
    moved, moved_logdet = transform(gauge(links))
    _assert_small(distance(moved, gauge(y), group), atol, "f(gauge(x)) = gauge(f(x))")
    _assert_small(moved_logdet - logdet, atol, "logdet(gauge(x)) = logdet(x)")


def assert_gauge_invariant(
    function: Callable[[Tensor], Tensor],
    links: Tensor,
    group: Group,
    *,
    atol: float = 1e-10,
    generator: torch.Generator | None = None,
    dim: int | None = None,
) -> None:
    """A function of the links is the same after a random gauge transformation.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> links = SU(2).haar(2, 4, 4, dtype=torch.float64)
        >>> assert_gauge_invariant(Wilson(SU(2), beta=1.0), links, SU(2))
    """
    gauge = _random_gauge(links, group, generator, dim)
    _assert_small(function(gauge(links)) - function(links), atol, "f(gauge(x)) = f(x)")


def _random_gauge(links: Tensor, group: Group, generator, dim) -> Callable[[Tensor], Tensor]:
    dim = infer_dim(links, group, dim)
    sites = extents(links, group, dim)
    V = group.haar(*sites, generator=generator, dtype=links.dtype, device=links.device)
    return lambda field: gauge_transform(field, V, group, dim=dim)


def assert_force(action: Action, links: Tensor, group: Group, *, atol: float = 1e-8) -> None:
    """The force is the derivative of the action: against autograd, element by element.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> assert_force(Wilson(SU(3), beta=6.0), SU(3).haar(2, 4, 4, dtype=torch.float64), SU(3))
    """
    generators = group.generators(dtype=links.real.dtype, device=links.device)
    e = len(group.element_shape)
    with torch.enable_grad():
        moved = links.real.new_zeros(*links.shape[: links.ndim - e], len(generators)).requires_grad_()
        algebra = torch.tensordot(moved.to(links.dtype), generators, dims=1)
        (exact,) = torch.autograd.grad(action(group.compose(group.exp(algebra), links)).sum(), moved)
    force = group.inner(action.force(links).unsqueeze(-1 - e), generators)
    _assert_small(force - exact, atol, "force = derivative of the action")


def assert_conjugation_map(
    conjugation: ConjugationMap,
    loop: Tensor,
    params: Tensor,
    group: Group,
    *,
    boundary: Tensor | None = None,
    atol: float = 1e-10,
    generator: torch.Generator | None = None,
) -> None:
    """h is invertible both ways with cancelling log-determinants, stays in the group, and h(V W V^-1) = V h(W) V^-1.

    Args:
        loop: elements W `(n, *element)`.
        params: `(n, n_params)`.
        boundary: for a map that sees them, boundaries `(n, *element)`, which turn along with the loops.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.layers import ResidualMap
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
        _assert_small(distance(group.compose(g_back, moved), loop, group), atol, "the inverse of h undoes h")
        _assert_small(logdet + logdet_back, atol, "the log-determinants cancel")
        _assert_small(group.defect(moved), atol, "h(W) is in the group")
        V = group.haar(len(loop), generator=generator, dtype=loop.dtype, device=loop.device)
        turned = [group.compose(group.compose(V, x), group.inverse(V)) for x in (loop, g, *seen)]
        turned_g, turned_logdet = there(turned[0], params, *turned[2:])
        _assert_small(distance(turned_g, turned[1], group), atol, "h(V W V^-1) = V h(W) V^-1")
        _assert_small(turned_logdet - logdet, atol, "logdet(V W V^-1) = logdet(W)")
