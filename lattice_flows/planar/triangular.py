"""A triangular map of SU(3): one coordinate after the other, in the frame of a frozen loop."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels.spectral_flow import n_params as n_spectral_params
from lattice_flows.kernels.spectral_flow import spectral_flow
from lattice_flows.kernels.splines import check_bins, knots, n_knot_params, rational_quadratic
from lattice_flows.planar.coupling import RectangleMap

COORDINATES = ("real", "imaginary", "share", "rotation")
"""The order of the triangle: the image of a coordinate may depend on those before it."""
ROW, FIRST, SECOND = 1, 2, 0
"""The row of the middle eigenvalue of W, which moves first, and the other two in cyclic order."""


class _Row(NamedTuple):
    """The middle row v of Y in the frame of W, in polar coordinates of the sphere S^5."""

    v: Tensor
    real: Tensor
    """`(2, ...)`: phi / pi and 1 - phi / pi, Re v_1 = cos phi."""
    imaginary: Tensor
    """`(2, ...)`: psi / pi and 1 - psi / pi, Im v_1 = sin phi cos psi."""
    share: Tensor
    """`(2, ...)`: |v_2|^2 and |v_0|^2, divided by their sum."""


class TriangularMap(RectangleMap):
    """One of the four maps that together take Haar measure to any density exp(Re tr Y K), K diagonal where W is.

    F has the eigenvectors of the frozen loop W, A = F^dagger Y F has the middle row v, K = (1 - s) W^s + s W^(s-1). A
    map is a spline of one of the coordinates phi, psi, t, or of the eigenphase of V (`spectral_flow`):

        Re v_1 = cos phi,   Im v_1 = sin phi cos psi,   |v_2|^2 = t sin^2 phi sin^2 psi,
        V = the SU(2) part of the two other rows and columns of A K.

    `lattice_flows/planar/README.md` shows that four such splines suffice.

    The frame is not defined where two eigenvalues of W coincide. There h is continuous in Y, but not in W, and loses
    digits in W as 1 / gap.

    Source: M. Rosenblatt, Ann. Math. Statist. 23 (1952) 470, for triangular maps; N. Cabibbo and E. Marinari, Phys.
    Lett. B 119 (1982) 387, for the density in an SU(2) orbit.

    Args:
        group: SU(3).
        coordinate: one of `COORDINATES`.
        share: s, the part of the area of W that W_a encloses.
        bins: the number of spline bins.

    Raises:
        InvalidInput: another group or coordinate.

    Example:
        >>> from lattice_flows import SU
        >>> rotation = TriangularMap(SU(3), "rotation", share=0.5)
        >>> generator = torch.Generator().manual_seed(0)
        >>> loop, boundary = SU(3).haar(2, 5, generator=generator, dtype=torch.float64)
        >>> params = torch.randn(5, rotation.n_params, generator=generator, dtype=torch.float64)
        >>> g, logdet = rotation(loop, params, boundary)
        >>> seen = rotation.features(loop, boundary), rotation.features(g @ loop, boundary)
        >>> bool(torch.allclose(*seen))
        True
    """

    def __init__(self, group: Group, coordinate: str, share: float, bins: int = 8):
        super().__init__()
        if group.name != "SU(3)" or coordinate not in COORDINATES:
            raise InvalidInput(
                f"triangular maps are for SU(3) and one of {', '.join(COORDINATES)}, got {group} and {coordinate!r}"
            )
        self.group = group
        self.coordinate = coordinate
        self.share = share
        self.bins = check_bins(bins)
        self.n_params = n_spectral_params(2, bins) if coordinate == "rotation" else n_knot_params(bins)
        self.n_features = (0, 1, 3, 5)[COORDINATES.index(coordinate)]

    def features(self, loop: Tensor, boundary: Tensor) -> Tensor:
        frame, weights = self._frame(boundary)
        a = frame.mH @ loop @ frame
        row = _row(a)
        cosines = [(math.pi * angle[0]).cos() for angle in (row.real, row.imaginary)]
        seen = [cosines[0], row.v[..., ROW].imag, cosines[1], row.share[0], _rotation(a * weights)[1]]
        return torch.stack(seen, dim=-1)[..., : self.n_features]

    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(loop, params, boundary, inverse=False)

    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(loop, params, boundary, inverse=True)

    def _move(self, loop: Tensor, params: Tensor, boundary: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        frame, weights = self._frame(boundary)
        a = frame.mH @ loop @ frame
        rotation, _ = _rotation(a * weights)
        if self.coordinate == "rotation":
            turn, logdet = spectral_flow(rotation, params, self.bins, inverse=inverse)
            orbit = frame[..., [FIRST, SECOND]]
            eye = self.group.identity(dtype=loop.dtype, device=loop.device)
            return eye + orbit @ (turn - eye[:2, :2]) @ orbit.mH, logdet
        curve = knots(params, self.bins)
        row, logdet = _moved(_row(a), self.coordinate, lambda x: rational_quadratic(x[0], x[1], curve, inverse))
        others = _orthogonal(row)
        start, _ = _rotation(torch.stack(_in_order(others[0], others[1], row), dim=-2) * weights)
        others = list((rotation @ start.mH @ torch.stack(others, dim=-2)).unbind(-2))
        new = torch.stack(_in_order(others[0], others[1], row), dim=-2)
        g = frame @ (new @ a.mH) @ frame.mH
        # to the nearest unitary matrix: without it, the rounding error of Y doubles with every map
        return 1.5 * g - 0.5 * g @ (g.mH @ g), logdet

    def _frame(self, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvectors of W, and the diagonal of K as a row `(..., 1, N)`."""
        phases, frame = self.group.eigenphases(boundary)
        one, s = torch.ones_like(phases), self.share
        weights = (1 - s) * torch.polar(one, s * phases) + s * torch.polar(one, (s - 1) * phases)
        return _differentiable(boundary, phases, frame), weights.unsqueeze(-2)

    def extra_repr(self) -> str:
        return f"{self.coordinate}, share={self.share:g}, bins={self.bins}"


def _row(a: Tensor) -> _Row:
    v = a[..., ROW, :]
    x, y = v[..., ROW].real, v[..., ROW].imag
    nothing = 1e-4 * torch.finfo(x.dtype).eps ** 2  # far below rounding, and its square has an inverse
    first, second = (v[..., k].abs().square() + nothing for k in (FIRST, SECOND))
    both = first + second
    share = torch.stack((first / both, second / both))
    return _Row(v, _angle(x, (y * y + both).sqrt()), _angle(y, both.sqrt()), share)


def _angle(adjacent: Tensor, opposite: Tensor) -> Tensor:
    """An angle and its supplement in units of pi, both to full relative precision."""
    return torch.stack((torch.atan2(opposite, adjacent), torch.atan2(opposite, -adjacent))) / math.pi


def _sine(angle: Tensor) -> Tensor:
    return (math.pi * angle.amin(0)).sin()


def _moved(row: _Row, coordinate: str, spline: Callable) -> tuple[Tensor, Tensor]:
    """The row after a spline has moved one coordinate, and the log-determinant."""
    v = row.v
    x, y, first, second = v[..., ROW].real, v[..., ROW].imag, v[..., FIRST], v[..., SECOND]
    if coordinate == "share":
        *share, logdet = spline(row.share)
        factors = (torch.stack(share) / row.share).sqrt()
        first, second = first * factors[0], second * factors[1]
    else:
        old, power = (row.real, 4) if coordinate == "real" else (row.imaginary, 3)
        *angle, logdet = spline(old)
        stretch = _sine(torch.stack(angle)) / _sine(old)
        logdet = logdet + power * stretch.log()
        first, second = first * stretch, second * stretch
        if coordinate == "real":
            x, y = (math.pi * angle[0]).cos(), y * stretch
        else:
            y = _sine(row.real) * (math.pi * angle[0]).cos()
    moved = torch.stack(_in_order(first, second, torch.complex(x, y)), dim=-1)
    return moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True), logdet


def _in_order(first: Tensor, second: Tensor, row: Tensor) -> list[Tensor]:
    """The items of FIRST, SECOND and ROW, in the order of indices."""
    return [dict(zip((FIRST, SECOND, ROW), (first, second, row), strict=True))[k] for k in range(3)]


def _orthogonal(row: Tensor) -> list[Tensor]:
    """Two rows that make an element of SU(3) with a given one, which stands between them in cyclic order."""
    with torch.no_grad():  # any vector that is not near the row will do: the result does not depend on it
        axis = torch.nn.functional.one_hot(row.abs().argmin(-1), 3).to(row.dtype)
    first = axis - (axis * row.conj()).sum(-1, keepdim=True) * row
    first = first / torch.linalg.vector_norm(first, dim=-1, keepdim=True)
    return [first, torch.linalg.cross(row, first).conj()]


def _rotation(m: Tensor) -> tuple[Tensor, Tensor]:
    """V `(..., 2, 2)`, and the length of the quaternion nearest to the outer rows and columns."""
    tiny = torch.finfo(m.real.dtype).tiny
    p = (m[..., FIRST, FIRST] + m[..., SECOND, SECOND].conj()) / 2
    q = (m[..., FIRST, SECOND] - m[..., SECOND, FIRST].conj()) / 2
    length = (p.abs().square() + q.abs().square() + tiny).sqrt()
    p, q = p / length, q / length
    return torch.stack((torch.stack((p, q), -1), torch.stack((-q.conj(), p.conj()), -1)), -2), length


def _differentiable(boundary: Tensor, phases: Tensor, frame: Tensor) -> Tensor:
    """The frame with its derivative, dF = F Omega, Omega_jk = (F^dagger dW F)_jk / (e^{i theta_k} - e^{i theta_j})."""
    if not boundary.requires_grad:
        return frame
    values = torch.polar(torch.ones_like(phases), phases).detach()
    distance = values.unsqueeze(-2) - values.unsqueeze(-1)
    moved = frame.mH @ (boundary - boundary.detach()) @ frame
    apart = distance.abs() > torch.finfo(phases.dtype).eps
    return frame + frame @ torch.where(apart, moved / torch.where(apart, distance, 1), 0)
