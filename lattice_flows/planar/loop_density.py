"""The exact density of a loop in two-dimensional gauge theory, in torch: the target of a level."""

import torch
from torch import Tensor, nn

from lattice_flows.groups import Group
from lattice_flows.planar.characters import characters

# terms of the character expansion below this are left out: the largest, at W = 1, is 1
_NEGLIGIBLE = 1e-12


class LoopDensity(nn.Module):
    """log f_A(W), the log-density relative to Haar measure of a loop around A plaquettes in infinite volume,

        f_A(W) = sum_r d_r (lambda_r / lambda_0)^A chi_r(W),   lambda_r = c_r / d_r,

    in float64 for every precision of W.

    Shapes: W `(..., *element)` -> `(...)`, in the precision of W.

    Args:
        group, beta: of the Wilson action; `lattice_flows.planar.characters` must know the group.
        area: the number of plaquettes A >= 1.

    Raises:
        InvalidInput: as `characters`.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Example:
        >>> from lattice_flows import SU
        >>> loops = SU(3).haar(100_000, generator=torch.Generator().manual_seed(0))
        >>> print(f"{LoopDensity(SU(3), beta=6.0, area=4)(loops).exp().mean():.2f}")
        1.00
    """

    coefficients: Tensor
    indices: Tensor

    def __init__(self, group: Group, beta: float, area: int):
        super().__init__()
        self.group, self.beta, self.area = group, beta, area
        table = characters(group, beta)
        self.log_trivial = table.log_trivial
        terms = torch.from_numpy(table.dimension * table.ratio**area)
        kept = terms * torch.from_numpy(table.dimension) > _NEGLIGIBLE
        labels = kept.nonzero() - torch.tensor(table.origin)
        self.register_buffer("coefficients", terms[kept], persistent=False)
        self.register_buffer("indices", group.character_indices(labels), persistent=False)

    def forward(self, loop: Tensor) -> Tensor:
        if self.area == 1:
            return self.beta * self.group.retrace(loop) - self.log_trivial
        density = self.group.characters(loop, self.indices) @ self.coefficients
        # the rest of the series may make it negative where it is smallest
        return density.clamp_min(_NEGLIGIBLE).log().to(loop.real.dtype)


def plaquettes(group: Group, beta: float, n: int, generator: torch.Generator, updates: int = 200) -> Tensor:
    """n independent elements P `(n, *element)` with density ~ exp(beta Re tr P / N), by `updates` Metropolis steps."""
    element = group.haar(n, generator=generator, dtype=torch.float64)
    log_p = beta * group.retrace(element)
    width = 2.0 / max(1.0, beta) ** 0.5
    for _ in range(updates):
        step = group.exp(width * group.random_algebra(n, generator=generator, dtype=torch.float64))
        proposal = group.compose(step, element)
        log_p_new = beta * group.retrace(proposal)
        accepted = torch.rand(n, generator=generator, dtype=torch.float64).log() < log_p_new - log_p
        log_p = torch.where(accepted, log_p_new, log_p)
        element = torch.where(accepted.reshape(n, *[1] * (element.ndim - 1)), proposal, element)
    return element
