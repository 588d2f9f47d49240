"""special_unitary in plain PyTorch: the definition of the op."""

import torch
from torch import Tensor

from lattice_flows.kernels.matrices import orthonormal


def special_unitary(m: Tensor) -> Tensor:
    """Elements of SU(N), `(m, N, N)`; see `lattice_flows.kernels.special_unitary`."""
    q = orthonormal(m)
    phase = torch.sgn(torch.linalg.det(q)).conj_physical()
    return torch.cat((q[..., :-1], q[..., -1:] * phase[..., None, None]), dim=-1)
