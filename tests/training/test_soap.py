"""SOAP: the steps follow the gradient, not the rounding errors where it has no component."""

import copy

import pytest
import torch
from torch import nn

from lattice_flows.training import SOAP, soap

RATE = 0.01
SHAPES = [(3, 2), (32, 4), (40, 40), (65,), (8, 4, 3, 3)]


def descend(shape, dtype, gradients, **settings):
    """The weights after each step, from 0."""
    weight = nn.Parameter(torch.zeros(shape, dtype=dtype))
    optimizer = SOAP([weight], lr=RATE, **settings)
    path = []
    for gradient in gradients:
        weight.grad = gradient.to(dtype).reshape(shape)
        optimizer.step()
        path.append(weight.detach().double().reshape(len(weight), -1).clone())
    return torch.stack(path)


def normal(*shape, generator):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rank_one(shape, dtype, batch, generator):
    """Unit vectors, and 40 gradients along their product: products of numbers, or sums over a batch in `dtype`."""
    rows = normal(shape[0], 1, generator=generator)
    columns = normal(1, shape[1:].numel(), generator=generator)
    samples = [normal(batch, 1, generator=generator) for _ in range(40)]
    gradients = [(a @ rows.T).to(dtype).T @ ((a if batch > 1 else 1) * columns).to(dtype) for a in samples]
    return rows / rows.norm(), columns / columns.norm(), gradients


@pytest.mark.parametrize("batch", [1, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gradient_of_rank_one_moves_nothing_outside_its_span(shape, dtype, batch, generator):
    rows, columns, gradients = rank_one(torch.Size(shape), dtype, batch, generator)
    path = descend(shape, dtype, gradients)
    inside = rows.T @ path @ columns.T
    outside = path - rows @ inside @ columns
    assert outside.abs().max() < 0.02 * RATE
    assert inside.abs().max() > RATE


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_without_a_gradient_stay(dtype, mixed, generator, monkeypatch):
    """Rows and columns of zeros, and those that die after 10 steps, whatever eigenvectors of 0 LAPACK picks."""
    if mixed:
        monkeypatch.setattr(torch.linalg, "eigh", lambda moment, eigh=torch.linalg.eigh: mix(eigh(moment), generator))
    gradients = [normal(12, 9, generator=generator) for _ in range(400)]
    for step, gradient in enumerate(gradients):
        gradient[:3] = gradient[:, :2] = 0
        if step >= 10:
            gradient[3:6] = 0
    path = descend((12, 9), dtype, gradients) / RATE
    assert path[:, :3].abs().max() < 1e-3
    assert path[:, :, :2].abs().max() < 1e-3
    assert (path[300:, 3:6] - path[300, 3:6]).abs().max() < 0.05
    assert path[:, 6:, 2:].abs().amax(0).min() > 1
    assert not descend((12, 9), dtype, [torch.zeros(12, 9)] * 7).any()


def mix(found, generator):
    """The eigenvectors, those of the eigenvalue 0 rotated among each other."""
    dim = int((found.eigenvalues < 1e-6 * found.eigenvalues[..., -1]).sum())
    rotation = torch.linalg.qr(normal(dim, dim, generator=generator)).Q
    vectors = torch.cat((found.eigenvectors[..., :dim] @ rotation, found.eigenvectors[..., dim:]), -1)
    return torch.return_types.linalg_eigh((found.eigenvalues, vectors))


def test_the_first_gradient_makes_the_bases_alone(generator):
    path = descend((5, 4), torch.float64, [normal(5, 4, generator=generator) for _ in range(2)])
    assert not path[0].any()
    assert path[1].all()


def test_a_single_weight_gets_adam(generator):
    gradients = [normal(1, 1, generator=generator) for _ in range(30)]
    path = descend((1,), torch.float64, gradients)
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    adam = torch.optim.Adam([weight], lr=RATE, betas=(0.95, 0.95))
    for gradient, expected in zip(gradients[1:], path[1:], strict=True):
        weight.grad = gradient[0]
        adam.step()
        torch.testing.assert_close(weight.detach(), expected[0], rtol=0, atol=1e-7 * RATE)


@pytest.mark.parametrize("every", [1, 5])
def test_rotations_of_the_weights_rotate_the_steps(every, generator):
    """Adam does not know that, SOAP does, once its bases are those of the moments."""
    scales = 10.0 ** torch.arange(4, dtype=torch.float64)
    gradients = [scales[:, None] * normal(4, 3, generator=generator) for _ in range(25)]
    rotation = torch.linalg.qr(normal(4, 4, generator=generator)).Q
    path = descend((4, 3), torch.float64, gradients, every=every)
    rotated = descend((4, 3), torch.float64, [rotation @ gradient for gradient in gradients], every=every)
    torch.testing.assert_close(rotated, rotation @ path, rtol=0, atol=1e-6 * RATE)


def test_a_weight_moves_the_same_beside_others(generator):
    """Weights of one shape are updated as a batch, those that wait for a gradient later or never."""
    gradients = [[normal(4, 3, generator=generator) for _ in range(12)] for _ in range(3)]
    alone = [descend((4, 3), torch.float64, some)[-1] for some in (gradients[0], gradients[1], gradients[2][3:])]
    weights = [nn.Parameter(torch.zeros(4, 3, dtype=torch.float64)) for _ in range(4)]
    optimizer = SOAP(weights, lr=RATE)
    for step in range(12):
        for k, some in enumerate(gradients):
            weights[k].grad = some[step] if k < 2 or step >= 3 else None
        optimizer.step()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for weight, expected in zip(weights, [*alone, torch.zeros(4, 3)], strict=True):
        torch.testing.assert_close(weight.detach(), expected.double(), rtol=0, atol=1e-12)


def test_a_long_side_is_not_rotated(generator, monkeypatch):
    """With neither side rotated it is Adam."""
    monkeypatch.setattr(soap, "LARGEST", 2)
    gradients = [normal(4, 3, generator=generator) for _ in range(12)]
    path = descend((4, 3), torch.float64, gradients)
    weight = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    adam = torch.optim.Adam([weight], lr=RATE, betas=(0.95, 0.95))
    for gradient in gradients[1:]:
        weight.grad = gradient
        adam.step()
    torch.testing.assert_close(path[-1], weight.detach(), rtol=0, atol=1e-7)


def test_a_small_entry_of_large_rows_and_columns_moves(generator):
    """Below the rounding errors of the largest entry, where the row and the column are above them."""
    scales = torch.tensor([1.0, 1e-4], dtype=torch.float64)
    gradients = [scales[:, None] * normal(2, 2, generator=generator) * scales for _ in range(60)]
    path = descend((2, 2), torch.float32, gradients)
    assert path.abs().amax(0).min() > RATE
