"""unitary_eig in plain PyTorch: the definition of the op."""

import functools
import math

import torch
from torch import Tensor

from lattice_flows.errors import NumericalFailure
from lattice_flows.kernels.matrices import adjoint, not_unitary

# Any angle will do that no symmetry of the physics picks out: two phases collide in cos(theta - MIX) when they lie
# symmetrically about MIX, and at 0, pi/2 or pi every element of SU(2) or every real trace would have such a pair.
MIX = 0.9
MAX_SWEEPS, PATIENCE = 24, 8
# The largest element of |w^dagger w - 1| that passes: far above rounding, far below what is no longer the matrix meant.
NEARLY_UNITARY = 1e-3


def unitary_eig(w: Tensor) -> tuple[Tensor, Tensor]:
    """Phases `(..., N)` and eigenvectors `(..., N, N)` of w `(..., N, N)`; see `lattice_flows.kernels.unitary_eig`.

    The Hermitian matrix with eigenvalues cos(phase - MIX) is diagonalised by `eigh`, whose eigenvectors are
    orthonormal, and the matrices in which that mixed two different phases are finished by Jacobi rotations.
    """
    if w.numel() == 0:
        return w.real.new_empty(w.shape[:-1]), torch.empty_like(w, memory_format=torch.contiguous_format)
    one = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    # `not all` of what passes rather than `any` of what does not, so that NaN fails
    if not ((adjoint(w) @ w - one).abs() <= NEARLY_UNITARY).all():
        not_unitary("unitary_eig")
    turned = w * complex(math.cos(MIX), -math.sin(MIX))
    frame = torch.linalg.eigh((turned + adjoint(turned)) / 2).eigenvectors
    # Of w - 1 rather than w: near the identity its anti-Hermitian entries keep their relative precision.
    diagonal = adjoint(frame) @ (w - one) @ frame
    mixed = _off_diagonal(diagonal) > _tolerance(w)
    if mixed.any():
        diagonal[mixed], frame[mixed] = _jacobi(diagonal[mixed], frame[mixed])
    z = diagonal.diagonal(dim1=-2, dim2=-1)
    return torch.atan2(z.imag, 1 + z.real), frame.contiguous()


def _tolerance(w: Tensor) -> float:
    return 8 * w.shape[-1] * torch.finfo(w.dtype).eps


def _off_diagonal(a: Tensor) -> Tensor:
    return (a - torch.diag_embed(a.diagonal(dim1=-2, dim2=-1))).abs().amax((-2, -1))


@functools.cache
def _rounds(n: int) -> list[tuple[list[int], list[int]]]:
    """Rounds of disjoint index pairs (p, q) that together visit every pair once: a round-robin tournament."""
    players = list(range(n + n % 2))
    rounds = []
    for _ in range(len(players) - 1):
        pairs = [sorted((players[i], players[-1 - i])) for i in range(len(players) // 2)]
        pairs = [pair for pair in pairs if pair[1] < n]
        rounds.append(([p for p, _ in pairs], [q for _, q in pairs]))
        players = [players[0], players[-1], *players[1:-1]]
    return rounds


def _jacobi(a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate normal matrices `a` to diagonal form, and the frames `v` with them (H. Goldstine and L. Horwitz, 1959).

    A normal 2 x 2 block is m + exp(i phi) H with H Hermitian and traceless, so that exp(2 i phi) has the phase of
    -det(block - m); the rotation that diagonalises the Hermitian part of exp(-i phi) block diagonalises the block.
    """
    tiny = torch.finfo(a.dtype).tiny
    for sweep in range(MAX_SWEEPS):
        # what is unitary to a few roundings alone does not come nearer to a diagonal than that
        done = _off_diagonal(a) <= _tolerance(a) * (1 if sweep < PATIENCE else 100)
        if done.all():
            return a, v
        for p, q in _rounds(a.shape[-1]):
            upper, lower, half = a[:, p, q], a[:, q, p], (a[:, p, p] - a[:, q, q]) / 2
            turn = torch.sgn(torch.sqrt(half * half + upper * lower)).conj_physical()
            turn = torch.where(turn == 0, torch.ones_like(turn), turn)
            split = (turn * half).real
            off = (turn * upper + (turn * lower).conj_physical()) / 2
            tangent = off.abs() / (split.abs() + torch.hypot(split, off.abs())).clamp_min(tiny)
            cosine = torch.rsqrt(1 + tangent * tangent)
            sine = torch.copysign(tangent * cosine, split) * torch.sgn(off)
            # matrices that are done stay as they are: none depends on the others
            cosine, sine = cosine.masked_fill(done[:, None], 1), sine.masked_fill(done[:, None], 0)
            rotation = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).repeat(a.shape[0], 1, 1)
            rotation[:, p, p] = rotation[:, q, q] = cosine.to(a.dtype)
            rotation[:, p, q], rotation[:, q, p] = -sine, sine.conj_physical()
            a, v = adjoint(rotation) @ a @ rotation, v @ rotation
    raise NumericalFailure(
        f"unitary_eig: {MAX_SWEEPS} sweeps left off-diagonal elements of {_off_diagonal(a).max():.1e}; "
        "the matrices are not unitary"
    )
