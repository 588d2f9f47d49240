"""Monotone rational-quadratic splines of the unit interval and of the circle (C. Durkan et al., 1906.04032).

Points are pairs (x, 1 - x), both carried to full relative precision: a gap between eigenvalues can lie at either end
of the interval. With bin width w, height h, slope s = h / w, slopes d0 and d1 at the knots and t = (x - x0) / w,

    y = y0 + h [s t^2 + d0 t (1-t)] / [s + (d0 + d1 - 2 s) t (1-t)]
    dy/dx = s^2 [d1 t^2 + 2 s t (1-t) + d0 (1-t)^2] / [s + (d0 + d1 - 2 s) t (1-t)]^2
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lattice_flows.errors import InvalidInput

MIN_BIN = 1e-2
MIN_SLOPE = 1e-2
# Numbers of unit variance then give splines that float32 inverts to 1e-4: bins and slopes within a factor of a few.
SCALE = 0.25
# softplus(UNIT + 0) + MIN_SLOPE = 1: zero parameters are the identity
UNIT = math.log(math.expm1(1 - MIN_SLOPE))


class Knots(NamedTuple):
    """Bin widths and heights `(bins, ...)`, each summing to 1, and slopes at the knots `(bins + 1, ...)`.

    Knots come first because torch normalises, sums and gathers along the first axis an order of magnitude faster than
    along a short last one.
    """

    widths: Tensor
    heights: Tensor
    slopes: Tensor


def n_knot_params(bins: int, circular: bool = False) -> int:
    """How many unconstrained numbers a spline has: the slopes at the two ends of a circle are one."""
    return 3 * bins + (0 if circular else 1)


def check_bins(bins: int) -> int:
    """The number of bins, if it can be one."""
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= 64:
        raise InvalidInput(f"bins must be an integer from 1 to 64, got {bins!r}")
    return bins


def knots(raw: Tensor, bins: int, circular: bool = False) -> Knots:
    """Knots from unconstrained numbers `(..., n_knot_params)`, the points' axes before; zeros give the identity."""
    raw = SCALE * raw.movedim(-1, 0)
    widths, heights, slopes = raw.split([bins, bins, len(raw) - 2 * bins])
    if circular:
        slopes = torch.cat((slopes, slopes[:1]))
    room = 1 - bins * MIN_BIN
    return Knots(
        MIN_BIN + room * widths.softmax(0),
        MIN_BIN + room * heights.softmax(0),
        MIN_SLOPE + softplus(slopes + UNIT),
    )


def _before(sizes: Tensor) -> Tensor:
    """The sum of the bins before each bin: without a detour of gradients, which at 0 are large, to the first one."""
    return torch.cat((torch.zeros_like(sizes[:1]), sizes[:-1].cumsum(0)))


def _after(sizes: Tensor) -> Tensor:
    """The sum of the bins after each bin, which near 1 has digits that 1 less what is before has not."""
    return _before(sizes.flip(0)).flip(0)


def rational_quadratic(x: Tensor, rest: Tensor, curve: Knots, inverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The spline, or its inverse, at x `(...)` given with rest = 1 - x: gives y, 1 - y and log|dy/dx|.

    Example:
        >>> import torch
        >>> x, curve = torch.tensor([0.1, 0.7]), knots(torch.linspace(-1, 1, 13).expand(2, 13), bins=4)
        >>> y, rest, log_slope = rational_quadratic(x, 1 - x, curve)
        >>> back, _, log_back = rational_quadratic(y, rest, curve, inverse=True)
        >>> bool(torch.allclose(back, x)), bool(torch.allclose(log_slope + log_back, torch.zeros(2), atol=1e-5))
        (True, True)
    """
    domain, image = (curve.heights, curve.widths) if inverse else (curve.widths, curve.heights)
    bins = len(domain)
    edges = _before(domain)
    index = (x >= edges[1:]).sum(0)
    # one gather from one table: six small ones would cost more than all the arithmetic that follows
    table = torch.cat((domain, image, edges, _before(image), _after(domain), _after(image), curve.slopes))
    columns = [index + k * bins for k in range(7)]
    size, target, start, new_start, end, new_end, low, high = torch.gather(
        table, 0, torch.stack((*columns, columns[-1] + 1))
    ).unbind()
    slope = size / target if inverse else target / size
    bend = low + high - 2 * slope
    # of the distances to the two ends of the bin, the one on the side of the nearer end of the interval has the digits
    far = x > rest
    t = (torch.where(far, rest - end, x - start) / size).clamp(0, 1)
    if inverse:
        t = _solve(t, slope, torch.where(far, high, low), bend)
    t, u = torch.where(far, 1 - t, t), torch.where(far, t, 1 - t)
    tu = t * u
    scale = slope + bend * tu
    log_slope = (slope * slope * (high * t * t + 2 * slope * tu + low * u * u) / (scale * scale)).log()
    if inverse:
        return new_start + target * t, new_end + target * u, -log_slope
    return (
        new_start + target * t * (slope * t + low * u) / scale,
        new_end + target * u * (slope * u + high * t) / scale,
        log_slope,
    )


def _solve(y: Tensor, slope: Tensor, low: Tensor, bend: Tensor) -> Tensor:
    """The root t in [0, 1] of y (slope + bend t (1-t)) = slope t^2 + low t (1-t), in the form that does not cancel."""
    linear = low - bend * y
    quadratic = slope - linear
    root = torch.sqrt((linear * linear + 4 * quadratic * slope * y).clamp_min(0))
    return 2 * slope * y / (linear + root)
