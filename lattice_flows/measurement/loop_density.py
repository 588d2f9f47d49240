"""The exact density of a loop in two-dimensional gauge theory, in torch: what a level of a hierarchy is trained on."""

import torch
from torch import Tensor, nn

from lattice_flows.groups import SU, Group
from lattice_flows.measurement.characters import characters

# terms of the character expansion below this are left out: the largest, at W = 1, is 1
_NEGLIGIBLE = 1e-12


class LoopDensity(nn.Module):
    """log f_A(W), the log-density relative to Haar measure of a loop around A plaquettes in infinite volume,

        f_A(W) = sum_r d_r (lambda_r / lambda_0)^A chi_r(W),   lambda_r = c_r / d_r,

    computed in float64 whatever the precision of W. The characters of SU(N) are the determinants of Jacobi and Trudi in
    the complete symmetric polynomials of the eigenvalues, which follow from traces of powers of W.

    Shapes: W `(..., *element)` -> `(...)`, in the precision of W.

    Args:
        group: U(1), or SU(N) for the N that `characters` knows.
        beta: the coupling of the Wilson action.
        area: the number of plaquettes A >= 1.

    Raises:
        InvalidInput: as `characters`.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413; W. Fulton and J. Harris, Representation Theory (1991),
    eq. (A.5), for the determinants.

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
        if isinstance(group, SU):
            # rows of Young diagrams, and the determinants' indices into h_k, of which those with k < 0 are 0
            rows = labels.flip(-1).cumsum(-1).flip(-1)
            place = torch.arange(group.n - 1)
            self.register_buffer("indices", rows[:, :, None] - place[:, None] + place, persistent=False)
        else:
            self.register_buffer("indices", labels[:, 0], persistent=False)

    def forward(self, loop: Tensor) -> Tensor:
        if self.area == 1:
            return self.beta * self.group.retrace(loop) - self.log_trivial
        if not isinstance(self.group, SU):
            characters_ = torch.cos(loop.double().unsqueeze(-1) * self.indices)
        else:
            characters_ = torch.linalg.det(self._symmetric(loop.to(torch.complex128))[..., self.indices]).real
        density = characters_ @ self.coefficients
        # where it is smallest, what is left out of the series may make it negative
        return density.clamp_min(_NEGLIGIBLE).log().to(loop.real.dtype)

    def _symmetric(self, loop: Tensor) -> Tensor:
        """h_0, h_1, ..., h_K, then zeros for the negative indices, `(..., K + N)`."""
        n, largest = self.group.n, int(self.indices.max())
        power, traces = loop, []
        for k in range(n):
            power = power @ loop if k else loop
            traces.append(power.diagonal(dim1=-2, dim2=-1).sum(-1))
        one = torch.ones_like(traces[0])
        e = [one]
        for k in range(1, n + 1):  # Newton's identities
            e.append(sum((-1) ** (i - 1) * e[k - i] * traces[i - 1] for i in range(1, k + 1)) / k)  # type: ignore[arg-type]
        h = [one]
        for k in range(1, largest + 1):
            h.append(sum((-1) ** (i - 1) * e[i] * h[k - i] for i in range(1, min(k, n) + 1)))  # type: ignore[arg-type]
        return torch.stack([*h, *[torch.zeros_like(one)] * (n - 1)], dim=-1)


def plaquettes(group: Group, beta: float, n: int, generator: torch.Generator, updates: int = 200) -> Tensor:
    """n independent elements `(n, *element)` with density proportional to exp(beta Re tr P / N), by Metropolis.

    Every element has a chain of its own, from a Haar element through `updates` updates.
    """
    element = group.haar(n, generator=generator, dtype=torch.float64)
    log_p = beta * group.retrace(element)
    width = 2.0 / max(1.0, beta) ** 0.5
    for _ in range(updates):
        step = group.exp(width * group.random_algebra(n, generator=generator, dtype=torch.float64))
        proposal = group.compose(step, element)
        log_p_new = beta * group.retrace(proposal)
        accepted = torch.rand(n, generator=generator, dtype=torch.float64).log() < log_p_new - log_p
        log_p = torch.where(accepted, log_p_new, log_p)
        element = torch.where(accepted.reshape(n, *[1] * len(group.element_shape)), proposal, element)
    return element
