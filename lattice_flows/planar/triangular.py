"""A triangular map of SU(3): one coordinate after the other, in the frame of a frozen loop."""

import math

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
"""The row of the middle eigenvalue of W, which moves first, and the other two in cyclic order: (SECOND, ROW, FIRST)."""


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
        >>> rotation, generator = TriangularMap(SU(3), "rotation", share=0.5), torch.Generator().manual_seed(0)
        >>> loop, boundary = SU(3).haar(2, 5, generator=generator, dtype=torch.float64)
        >>> g, logdet = rotation(loop, torch.ones(5, rotation.n_params, dtype=torch.float64), boundary)
        >>> bool(torch.allclose(rotation.features(loop, boundary), rotation.features(g @ loop, boundary)))
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
        v = a[..., ROW, :]
        phi, psi, share = (pair[0] for pair in _coordinates(v).values())
        length = _rotation(a * weights)[1]
        seen = [(math.pi * phi).cos(), v[..., ROW].imag, (math.pi * psi).cos(), share, length]
        return torch.stack(seen, dim=-1)[..., : self.n_features]

    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(loop, params, boundary, inverse=True)

    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        frame, weights = self._frame(boundary)
        a = frame.mH @ loop @ frame
        rotation, _ = _rotation(a * weights)
        if self.coordinate == "rotation":
            turn, logdet = spectral_flow(rotation, params, self.bins, inverse=inverse)
            orbit = frame[..., [FIRST, SECOND]]
            eye = self.group.identity(dtype=loop.dtype, device=loop.device)
            return eye + orbit @ (turn - eye[:2, :2]) @ orbit.mH, logdet
        row, logdet = self._moved(a[..., ROW, :], params, inverse)
        first, second = _orthogonal(row)
        start, _ = _rotation(torch.stack((second, row, first), dim=-2) * weights)
        first, second = (rotation @ start.mH @ torch.stack((first, second), dim=-2)).unbind(-2)
        new = torch.stack((second, row, first), dim=-2)
        g = frame @ (new @ a.mH) @ frame.mH
        # to the nearest unitary matrix: without it, the rounding error of Y doubles with every map
        return 1.5 * g - 0.5 * g @ (g.mH @ g), logdet

    def _frame(self, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvectors of W, with their derivative, and the diagonal of K as a row `(..., 1, N)`.

        The derivative is dF = F Omega, Omega_jk = (F^dagger dW F)_jk / (e^{i theta_k} - e^{i theta_j}).
        """
        phases, frame = self.group.eigenphases(boundary)
        one, s = torch.ones_like(phases), self.share
        weights = (1 - s) * torch.polar(one, s * phases) + s * torch.polar(one, (s - 1) * phases)
        if boundary.requires_grad:
            values = torch.polar(one, phases).detach()
            distance = values.unsqueeze(-2) - values.unsqueeze(-1)
            turned = frame.mH @ (boundary - boundary.detach()) @ frame
            apart = distance.abs() > torch.finfo(phases.dtype).eps
            frame = frame + frame @ torch.where(apart, turned / torch.where(apart, distance, 1), 0)
        return frame, weights.unsqueeze(-2)

    def _moved(self, v: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """The row after a spline has moved one coordinate, and the log-determinant."""
        coordinates = _coordinates(v)
        old = coordinates[self.coordinate]
        x, y, first, second = v[..., ROW].real, v[..., ROW].imag, v[..., FIRST], v[..., SECOND]
        *pair, logdet = rational_quadratic(old[0], old[1], knots(params, self.bins), inverse)
        if self.coordinate == "share":
            factors = (torch.stack(pair) / old).sqrt()
            first, second = first * factors[0], second * factors[1]
        else:
            stretch = _sine(torch.stack(pair)) / _sine(old)
            logdet = logdet + {"real": 4, "imaginary": 3}[self.coordinate] * stretch.log()
            first, second = first * stretch, second * stretch
            if self.coordinate == "real":
                x, y = (math.pi * pair[0]).cos(), y * stretch
            else:
                y = _sine(coordinates["real"]) * (math.pi * pair[0]).cos()
        moved = torch.stack((second, torch.complex(x, y), first), dim=-1)
        return moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True), logdet

    def extra_repr(self) -> str:
        return f"{self.coordinate}, share={self.share:g}, bins={self.bins}"


def _coordinates(v: Tensor) -> dict[str, Tensor]:
    """Polar coordinates of the row v on the sphere S^5, as pairs `(2, ...)` that sum to 1.

    They are phi / pi of Re v_1 = cos phi, psi / pi of Im v_1 = sin phi cos psi, and |v_2|^2 of |v_2|^2 + |v_0|^2.
    """
    x, y = v[..., ROW].real, v[..., ROW].imag
    nothing = 1e-4 * torch.finfo(x.dtype).eps ** 2  # far below rounding, and its square has an inverse
    first, second = (v[..., k].abs().square() + nothing for k in (FIRST, SECOND))
    both = first + second
    share = torch.stack((first / both, second / both))
    return {"real": _angle(x, (y * y + both).sqrt()), "imaginary": _angle(y, both.sqrt()), "share": share}


def _angle(adjacent: Tensor, opposite: Tensor) -> Tensor:
    """An angle and its supplement in units of pi, both to full relative precision."""
    return torch.stack((torch.atan2(opposite, adjacent), torch.atan2(opposite, -adjacent))) / math.pi


def _sine(angle: Tensor) -> Tensor:
    return (math.pi * angle.amin(0)).sin()


def _orthogonal(row: Tensor) -> tuple[Tensor, Tensor]:
    """The FIRST and SECOND row of an element of SU(3) with a given one, which stands between them in cyclic order."""
    with torch.no_grad():  # any vector that is not near the row will do: the result does not depend on it
        axis = torch.nn.functional.one_hot(row.abs().argmin(-1), 3).to(row.dtype)
    first = axis - (axis * row.conj()).sum(-1, keepdim=True) * row
    first = first / torch.linalg.vector_norm(first, dim=-1, keepdim=True)
    return first, torch.linalg.cross(row, first).conj()


def _rotation(m: Tensor) -> tuple[Tensor, Tensor]:
    """V `(..., 2, 2)`, and the length of the quaternion nearest to the outer rows and columns."""
    tiny = torch.finfo(m.real.dtype).tiny
    p = (m[..., FIRST, FIRST] + m[..., SECOND, SECOND].conj()) / 2
    q = (m[..., FIRST, SECOND] - m[..., SECOND, FIRST].conj()) / 2
    length = (p.abs().square() + q.abs().square() + tiny).sqrt()
    p, q = p / length, q / length
    return torch.stack((torch.stack((p, q), -1), torch.stack((-q.conj(), p.conj()), -1)), -2), length
