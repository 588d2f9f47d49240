"""How far the op is from its reference in double precision on the same input, the worst of many matrices of every kind.

    python experiments/kernels/accuracy.py 1000000 3 float32

prints a table for SU(3), and with `triton` as last argument one of the Triton kernels: on a GPU, or in the interpreter
if the environment has TRITON_INTERPRET=1. Errors are given in units of what is allowed, with ! where they are larger:

- g unitary to 2e-6 in single and 1e-13 in double precision;
- log-determinants within 5e-5 and 1e-10;
- gradients within 1e-3 and 1e-10 of the largest element of the gradient of that matrix;
- except where rounding the input moves the result by more: then within 10 times that.

What rounding moves is seen by giving the reference the same matrix in another frame, V W V^dagger for a random V, which
moves nothing but digits, with every number moved by up to its rounding error. It is the largest of several trials,
which end when all errors of a matrix are allowed. At a knot of a spline gradients have a step, which few trials cross:
what is left is tried with thirty times the rounding, and what is left then with many more trials. Where eigenphases
coincide to the last digit the gradient of W has a step, and only its size is reported.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import samples
import torch
from torch import Tensor

from lattice_flows.kernels import triton_common
from lattice_flows.kernels.spectral_flow import reference, spectral_flow, triton

Results = tuple[Tensor, Tensor, Tensor, Tensor]
Evaluate = Callable[[Tensor, Tensor, Tensor, Tensor, bool], Results]
"""From W, the parameters, the gradients of g and of the log-determinants, and the direction, to g, log-determinants and
the gradients of W and of the parameters."""

BINS = 8
CHUNK = 10_000
TRIALS = ((1, 10),) * 8 + ((30, 2),) * 64 + ((1, 10),) * 512
"""Rounding errors by which numbers are moved, and how many times what that moves is allowed."""
COLUMNS = ("unitarity", "g", "logdet", "grad w", "grad params", "largest gradient")
ALLOWED = {torch.float32: (2e-6, 5e-5, 1e-3), torch.float64: (1e-13, 1e-10, 1e-10)}


def of_the_op(w: Tensor, params: Tensor, grad_g: Tensor, grad_logdet: Tensor, inverse: bool) -> Results:
    """The op's results, whatever it uses for tensors such as these."""
    leaves = w.detach().requires_grad_(), params.detach().requires_grad_()
    g, logdet = spectral_flow(*leaves, BINS, inverse=inverse)
    grad_w, grad_params = torch.autograd.grad((g, logdet), leaves, (grad_g, grad_logdet))
    return g.detach(), logdet.detach(), grad_w, grad_params


def of_triton(w: Tensor, params: Tensor, grad_g: Tensor, grad_logdet: Tensor, inverse: bool) -> Results:
    """Those of the Triton kernels, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    w, params, grad_g, grad_logdet = (x.to(device).unsqueeze(0) for x in (w, params, grad_g, grad_logdet))
    results = (
        *triton.spectral_flow(w, params, BINS, inverse),
        *triton.spectral_flow_backward(w, params, grad_g, grad_logdet, BINS, inverse),
    )
    g, logdet, grad_w, grad_params = (x.squeeze(0).cpu() for x in results)
    return g, logdet, grad_w, grad_params


def worst(
    kinds: Sequence[str], n: int, m: int, dtype: torch.dtype, inverse: bool, evaluate: Evaluate = of_the_op
) -> dict[str, dict[str, float]]:
    """Of each kind the worst errors of m matrices, in units of what is allowed; all are below 1 where the op is right.

    All kinds are evaluated as one batch.
    """
    generator = torch.Generator().manual_seed(0)
    result: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for first in range(0, m, CHUNK):
        count = min(CHUNK, m - first)
        inputs = [_inputs(kind, n, count, dtype, generator) for kind in kinds]
        results = evaluate(*map(torch.cat, zip(*inputs, strict=True)), inverse)
        for part, kind in enumerate(kinds):
            of_kind = [x[part * count : (part + 1) * count] for x in results]
            for name, value in _errors(kind, inputs[part], of_kind, dtype, inverse, generator):
                old = result[kind].get(name, 0.0)
                result[kind][name] = old if value <= old else value  # NaN counts as worst
    return result


def _inputs(kind: str, n: int, m: int, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
    w = samples.matrices(kind, n, m, generator, dtype.to_complex())
    params = samples.parameters(n, BINS, m, generator, dtype)
    grad_g = torch.randn(m, n, n, generator=generator, dtype=torch.complex128).to(w.dtype)
    return [w, params, grad_g, torch.randn(m, generator=generator, dtype=torch.float64).to(dtype)]


def _errors(kind, inputs, results, dtype, inverse, generator) -> Iterator[tuple[str, float]]:
    g, *others = results
    m, n = g.shape[:2]
    inputs = [_double(x) for x in inputs]
    inputs[0] = _nearest_unitary(inputs[0])
    expected = _exact(inputs, inverse)
    unitary, absolute, relative = ALLOWED[dtype]
    values = tuple(_double(x) for x in (g, *others))
    errors = [_largest(value - right) for value, right in zip(values, expected, strict=True)]
    allowed = [torch.full((m,), absolute, dtype=torch.float64) for _ in range(2)]
    allowed += [relative * _largest(e) for e in expected[2:]]
    if kind in ("degenerate", "identity"):
        allowed[2].fill_(torch.inf)  # the gradient of W has a step there
    for roundings, factor in TRIALS:
        beyond = torch.stack([error > bound for error, bound in zip(errors, allowed, strict=True)]).any(0)
        if not beyond.any():
            break
        few, right = [x[beyond] for x in inputs], [x[beyond] for x in expected]
        for bound, a, b in zip(allowed, _elsewhere(few, inverse, dtype, roundings, generator), right, strict=True):
            bound[beyond] = torch.maximum(bound[beyond], factor * _largest(a - b))
    yield "unitarity", ((g.mH @ g - torch.eye(n, dtype=g.dtype)).abs().max() / unitary).item()
    for name, error, bound in zip(("g", "logdet", "grad w", "grad params"), errors, allowed, strict=True):
        if bound.isfinite().any():
            yield name, (error / bound).max().item()
    yield "largest gradient", max(grad.abs().max().item() for grad in others[1:])


def _exact(inputs: list[Tensor], inverse: bool) -> Results:
    w, params, grad_g, grad_logdet = inputs
    forward = reference.spectral_flow(w, params, BINS, inverse)
    return *forward, *reference.spectral_flow_backward(w, params, grad_g, grad_logdet, BINS, inverse)


def _elsewhere(inputs: list[Tensor], inverse: bool, dtype: torch.dtype, roundings: float, generator: torch.Generator):
    """The same by way of another frame, with every number moved there by up to so many rounding errors."""
    w, params, grad_g, grad_logdet = inputs
    v = samples.haar(w.shape[-1], len(w), generator)
    moved = [v @ w @ v.mH, params.clone(), v @ grad_g @ v.mH, grad_logdet.clone()]
    for x in moved:
        numbers = torch.view_as_real(x) if x.is_complex() else x
        noise = 2 * torch.rand(numbers.shape, generator=generator, dtype=torch.float64) - 1
        numbers *= 1 + roundings * torch.finfo(dtype).eps / 2 * noise
    moved[0] = _nearest_unitary(moved[0])
    g, logdet, grad_w, grad_params = _exact(moved, inverse)
    return v.mH @ g @ v, logdet, v.mH @ grad_w @ v, grad_params


def _double(x: Tensor) -> Tensor:
    return x.detach().to(torch.complex128 if x.is_complex() else torch.float64)


def _nearest_unitary(w: Tensor) -> Tensor:
    """Newton's iteration: what rounding takes away from unitarity is none of the op's business."""
    for _ in range(3):
        w = 1.5 * w - 0.5 * w @ w.mH @ w
    return w


def _largest(x: Tensor) -> Tensor:
    """The largest element of each matrix's part."""
    return x.abs().flatten(1).amax(-1) if x.ndim > 1 else x.abs()


def _cell(name: str, value: float) -> str:
    beyond = name != "largest gradient" and not value <= 1
    return f"{value:.2g}" + (" !" if beyond else "")


def main() -> None:
    """Print the table for what the command line names."""
    parser = argparse.ArgumentParser(description="errors of spectral_flow in units of what is allowed")
    parser.add_argument("matrices", type=int, help="how many of every kind")
    parser.add_argument("n", help="of which SU(N): 3, or 2,3,4")
    parser.add_argument("dtypes", help="float32, float64, or float32,float64")
    parser.add_argument("of", nargs="?", choices=("op", "triton"), default="op", help="whose errors (default op)")
    arguments = parser.parse_args()
    evaluate = {"op": of_the_op, "triton": of_triton}[arguments.of]
    if evaluate is of_triton and not torch.cuda.is_available():
        triton_common.BLOCK = 16384  # the interpreter takes as long for a small block as for a large one
    print("| N | dtype | matrices | direction |", " | ".join(COLUMNS), "|")
    print("|" + "---|" * (4 + len(COLUMNS)), flush=True)
    for n in map(int, arguments.n.split(",")):
        for dtype in arguments.dtypes.split(","):
            for kind in samples.KINDS:
                for inverse in (False, True):
                    row = worst([kind], n, arguments.matrices, getattr(torch, dtype), inverse, evaluate)[kind]
                    cells = [_cell(name, row[name]) if name in row else "-" for name in COLUMNS]
                    print(
                        "|",
                        " | ".join([str(n), dtype, kind, "inverse" if inverse else "forward", *cells]),
                        "|",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
