"""What the benchmark compares: of every op, its kernel and its rivals on the same kind of input."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import bench_compiled
import samples
import torch
from torch import Tensor

from lattice_flows import kernels
from lattice_flows.kernels import spectrum
from lattice_flows.kernels.circular_spline import n_params as n_circular_params
from lattice_flows.kernels.heat_bath import heat_bath, over_relaxation
from lattice_flows.kernels.link_sums import link_sums
from lattice_flows.kernels.spectral_flow import KEEP_FRAMES_FROM
from lattice_flows.kernels.spectral_flow import reference as flow_reference

BINS = 8
COMPLEX = (torch.complex64, torch.complex128)


class Effort(NamedTuple):
    """How many elements a kernel and a slow rival get, how many rounds there are, and the seconds of each."""

    many: int
    few: int
    huge: int
    rounds: int
    seconds: float


FULL = Effort(many=16384, few=2048, huge=131072, rounds=5, seconds=0.05)
QUICK = Effort(many=256, few=64, huge=512, rounds=1, seconds=0.0)


class Subject(NamedTuple):
    """Something to be timed: a function, the tensors it takes, and how many elements they hold."""

    function: Callable
    inputs: tuple[Tensor, ...]
    size: int
    differentiable: bool = True
    compiled: bool = True
    """Whether it may use the compiled kernels."""
    both: Callable | None = None
    """Forward and backward, given the inputs, where that is not autograd's."""


class Comparison(NamedTuple):
    """A kernel and its rivals; of a rival that cannot run, the reason stands for it."""

    case: str
    kernel: Subject
    rivals: dict[str, Subject | str]


def _flow_inputs(n: int, m: int, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    w = samples.matrices("haar", n, m, generator, dtype)
    return w.requires_grad_(), samples.parameters(n, BINS, m, generator, dtype.to_real()).requires_grad_()


def _spectral_flow_ops(m: int, n: int) -> tuple[Callable, Callable]:
    """The op alone, and it and its backward: what a kernel takes without torch's records of it."""
    op, backward = torch.ops.lattice_flows.spectral_flow, torch.ops.lattice_flows.spectral_flow_backward
    grad_logdet = {dtype: torch.ones(1, m, dtype=dtype) for dtype in (torch.float32, torch.float64)}
    keep = n >= KEEP_FRAMES_FROM

    def forward(w: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return op(w[None].detach(), params[None].detach(), BINS, False, False)[:2]

    def both(w: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        w, params = w[None].detach(), params[None].detach()
        _, _, frames = op(w, params, BINS, False, keep)
        # w is as good a gradient as any
        return backward(w, params, frames, w, grad_logdet[params.dtype], BINS, False)

    return forward, both


def eager_spectral_flow(w: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """The op written straightforwardly, with torch's own derivative of eig."""
    values, frame = torch.linalg.eig(w)
    phases, frame = spectrum.alcove(values.angle(), frame)
    gap = spectrum.gaps(phases)
    raw = flow_reference._raw(params, w.shape[-1], BINS)
    pieces, logdet = flow_reference._break(gap.roll(1, -1), raw, BINS)
    new_gap = pieces.roll(-1, -1)
    shift = spectrum.phases_from_gaps(new_gap - gap)
    g = (frame * torch.polar(torch.ones_like(shift), shift).unsqueeze(-2)) @ frame.mH
    return g, logdet + spectrum.log_vandermonde_ratio(new_gap, gap)


def huge_su3(effort: Effort) -> Subject:
    """The kernel on as many SU(3) matrices as a second thread is worth."""
    inputs = _flow_inputs(3, effort.huge, torch.complex64, torch.Generator().manual_seed(0))
    return Subject(lambda w, p: kernels.spectral_flow(w, p, BINS), inputs, effort.huge)


def _closed_form(inputs: tuple[Tensor, Tensor]) -> Subject | str:
    w, params = torch.view_as_real(inputs[0].detach()).requires_grad_(), inputs[1]
    function = bench_compiled.spectral_flow(BINS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inductor's own deprecations, and that it does not trace caches
            g, logdet = function(w, params)
    except Exception as obstacle:  # whatever inductor raises
        return " ".join(str(obstacle).split())[:100]
    expected_g, expected_logdet = kernels.spectral_flow(*inputs, BINS)
    error = max((torch.view_as_complex(g) - expected_g).abs().max(), (logdet - expected_logdet).abs().max())
    return Subject(function, (w, params), len(params)) if error < 1e-3 else f"wrong by {error:.0e}"


def _spectral_flow(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    for n, dtype, m in [(n, dtype, effort.many) for n in (2, 3, 4, 6, 8) for dtype in COMPLEX] + [
        (3, dtype, effort.huge) for dtype in COMPLEX
    ]:
        few, inputs = (_flow_inputs(n, size, dtype, generator) for size in (effort.few, m))
        rivals: dict[str, Subject | str] = {
            "reference": Subject(
                lambda w, p: flow_reference.spectral_flow(w, p, BINS), few, effort.few, compiled=False
            ),
            "linalg.eig": Subject(eager_spectral_flow, few, effort.few),
        }
        if n <= 3 and dtype == torch.complex64 and effort.rounds > 1:
            rivals["torch.compile of closed forms"] = _closed_form(inputs)
        through_autograd = Subject(lambda w, p: kernels.spectral_flow(w, p, BINS), inputs, m)
        forward, both = _spectral_flow_ops(m, n)
        kernel = through_autograd._replace(function=forward, both=both)
        rivals["itself through autograd"] = through_autograd
        yield Comparison(f"SU({n}) {_short(dtype)} M = {m}", kernel, rivals)


def _circular_spline(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    for dtype in (torch.float32, torch.float64):
        for m in (effort.many, effort.huge):
            angle = math.pi * (2 * torch.rand(m, generator=generator, dtype=dtype) - 1)
            params = torch.randn(m, n_circular_params(BINS), generator=generator, dtype=dtype)
            yield _against_reference(
                f"U(1) {_short(dtype)} M = {m}", lambda x, p: kernels.circular_spline(x, p, BINS), angle, params
            )


def _matrices(ns: Sequence[int], effort: Effort, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for n in ns:
        for dtype in COMPLEX:
            yield f"SU({n}) {_short(dtype)}", samples.matrices("haar", n, effort.many, generator, dtype)


def _spectral_power(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    for name, w in _matrices((2, 3, 4, 8), effort, generator):
        few = w[: effort.few].clone().requires_grad_()
        kernel = Subject(lambda w: kernels.spectral_power(w, 0.3), (w.requires_grad_(),), len(w))
        reference = kernel._replace(inputs=(few,), size=len(few), compiled=False)
        yield Comparison(name, kernel, {"reference": reference})


def _unitary_eig(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    for name, w in _matrices((2, 3, 4, 6, 8), effort, generator):
        few = w[: effort.few].clone()
        kernel = Subject(kernels.unitary_eig, (w,), len(w), False)
        rivals: dict[str, Subject | str] = {
            "reference (eigh)": Subject(kernels.unitary_eig, (few,), len(few), False, compiled=False),
            "linalg.eig": Subject(torch.linalg.eig, (few,), len(few), False),
        }
        yield Comparison(name, kernel, rivals)


def _algebra_exp(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    for name, w in _matrices((2, 3), effort, generator):
        x = (w - w.mH) / 2
        trace = x.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        x = (x - trace * torch.eye(x.shape[-1])).requires_grad_()
        rivals: dict[str, Subject | str] = {"linalg.matrix_exp": Subject(torch.linalg.matrix_exp, (x,), len(x))}
        yield Comparison(name, Subject(kernels.algebra_exp, (x,), len(x)), rivals)


def _link_products(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    """Plaquettes of 16x16 fields: links U_0(x), then U_1(x)."""
    fields, side = max(1, effort.many // 256), 16
    table = samples.plaquettes(side)
    for dtype in COMPLEX:
        links = samples.matrices("haar", 3, fields * 2 * side**2, generator, dtype).unflatten(0, (fields, -1))
        yield _against_reference(
            f"plaquettes of {fields} fields 16x16 SU(3) {_short(dtype)}",
            lambda x: kernels.link_products(x, table, (True, True, False, False)),
            links.clone(),
            size=fields * side**2,
        )


def _link_sums(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    """Staples of the links U_0(x) of 16x16 fields."""
    fields, side = max(1, effort.many // 256), 16
    site = torch.arange(side * side).reshape(side, side)
    up, down = site + side**2, site.roll(1, 1)
    tables = torch.stack((
        torch.stack((up.roll(-1, 0), site.roll(-1, 1), up)),
        torch.stack((down.roll(-1, 0) + side**2, down, down + side**2)),
    )).flatten(2)  # fmt: skip
    forward = ((True, False, False), (False, False, True))
    for dtype in COMPLEX:
        links = samples.matrices("haar", 3, fields * 2 * side**2, generator, dtype).unflatten(0, (fields, -1))
        kernel = Subject(lambda x: link_sums(x, tables, forward), (links,), fields * side**2, False)
        reference = kernel._replace(compiled=False)
        yield Comparison(f"staples of {fields} fields 16x16 SU(3) {_short(dtype)}", kernel, {"reference": reference})


def _heat_bath(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    """Two attempts, at a strength at which most are accepted; and over-relaxation."""
    for name, w in _matrices((2, 3, 4, 8), effort, generator):
        n = w.shape[-1]
        numbers = torch.rand(len(w), n * (n - 1) // 2, 2, 4, generator=generator, dtype=w.real.dtype)
        subjects = {
            "": Subject(lambda w, r: heat_bath(w, w.mH, 6.0, r), (w, numbers), len(w), False),
            ", over-relaxation": Subject(lambda w: over_relaxation(w, w), (w,), len(w), False),
        }
        for which, kernel in subjects.items():
            few = tuple(x[: effort.few].clone() for x in kernel.inputs)
            reference = kernel._replace(inputs=few, size=len(few[0]), compiled=False)
            yield Comparison(name + which, kernel, {"reference": reference})


def _periodic_conv(effort: Effort, generator: torch.Generator) -> Iterator[Comparison]:
    """Sixteen channels to sixteen, three sites wide; sites count."""
    for sites in ((16, 16), (8, 8, 8), (4, 4, 4, 4)):
        batch, volume = max(1, effort.many // 2 // math.prod(sites)), math.prod(sites)
        for dtype in (torch.float32, torch.float64):
            x = torch.randn(batch, 16, *sites, generator=generator, dtype=dtype)
            weight = torch.randn(16, 16, *[3] * len(sites), generator=generator, dtype=dtype)
            case = f"{'x'.join(map(str, sites))} {_short(dtype)}"
            yield _against_reference(case, kernels.periodic_conv, x, weight, size=batch * volume)


def _against_reference(case: str, function: Callable, *inputs: Tensor, size: int = 0) -> Comparison:
    inputs, size = tuple(x.requires_grad_() for x in inputs), size or len(inputs[0])
    reference = Subject(function, inputs, size, compiled=False)
    return Comparison(case, Subject(function, inputs, size), {"reference": reference})


OPS = {
    "spectral_flow": _spectral_flow,
    "circular_spline": _circular_spline,
    "spectral_power": _spectral_power,
    "unitary_eig": _unitary_eig,
    "algebra_exp": _algebra_exp,
    "link_products": _link_products,
    "link_sums": _link_sums,
    "heat_bath": _heat_bath,
    "periodic_conv": _periodic_conv,
}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
