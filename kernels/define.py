"""Ops: their implementations for torch's dispatcher, and their derivatives."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from lattice_flows.kernels import build, gpu

Op = Any  # as torch calls it: no public type of torch's says more
# torch.library.custom_op would import torch.compile, a second of CPU time, at the first call of an op
LIBRARY = torch.library.Library("lattice_flows", "FRAGMENT")


def define_op(
    reference: Callable[..., Any],
    shapes: Callable[..., Tensor | tuple[Tensor, ...]],
    cpu: Callable[..., Sequence[Tensor | int]],
    *,
    smallest: int = 2,
    largest: int | None = None,
    failed: Callable[..., None] | None = None,
    adapt: Callable[[Callable], Callable] = lambda implementation: implementation,
    precision: Callable[..., torch.dtype] = lambda first, *_: first.dtype,
) -> Op:
    """Register an op `lattice_flows::<name>` under the name of its reference, and return it.

    torch's dispatcher chooses the compiled kernel on CPUs, that of `triton.py`, if the op's folder has one, on GPUs,
    and else the reference.

    Args:
        reference: the definition, from `reference.py` in the op's folder; its annotations give the schema, and it has
            no default values.
        shapes: allocates the outputs for given inputs.
        cpu: gives the arguments of the C function for inputs and outputs, but for the number of threads, the last one.
        smallest, largest: the range of N with a compiled kernel, where each N has its own.
        failed: raises, for the op's name and inputs, after the C function has returned another number than 0.
        adapt: turns an implementation into one with the signature of the op.
        precision: that of the compiled kernel, for given inputs.
    """
    folder, name = reference.__module__.split(".")[-2], reference.__name__
    fallback = adapt(reference)
    LIBRARY.define(name + torch.library.infer_schema(fallback, mutates_args=()), tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, fallback, "CompositeExplicitAutograd")
    torch.library.register_fake(f"lattice_flows::{name}", shapes, lib=LIBRARY)
    torch.library.register_autograd(f"lattice_flows::{name}", _no_derivative, lib=LIBRARY)

    def on_cpu(*inputs):
        n = inputs[0].shape[-1] if largest else None
        known = not largest or smallest <= n <= largest
        library = build.native(folder, precision(*inputs), n) if known else None
        if library is None:
            return fallback(*inputs)
        outputs = shapes(*inputs)
        result = build.call(getattr(library, name), *cpu(*inputs, *_several(outputs)), torch.get_num_threads())
        if result and failed:
            failed(folder, *inputs)
        return outputs

    LIBRARY.impl(name, on_cpu, "CPU")
    if (build.KERNELS / folder / "triton.py").exists():

        def on_gpu(*inputs):
            module = gpu.implementation(folder, inputs[0].shape[-1] if largest else None)
            return adapt(getattr(module, name))(*inputs)

        LIBRARY.impl(name, on_gpu, "CUDA")

    return getattr(torch.ops.lattice_flows, name).default


def _no_derivative(ctx: Any, *grads: Tensor) -> NoReturn:
    raise NotImplementedError("this op has no derivative (see its documentation)")


def _several(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def plain(x: Tensor) -> Tensor:
    """The numbers of a tensor one after the other, as C reads them."""
    return x.resolve_conj().contiguous()


def like(x: Tensor, *_: Any) -> Tensor:
    """Room for a contiguous tensor of the shape of the first input."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def differentiable(op: Op, backward_op: Op, *, tensors: int, numbers: int = 0, kept: int = 0) -> Callable[..., Any]:
    """An op with its derivative; second derivatives and, as the op has none registered, forward mode raise.

    The backward op takes the first inputs of the op, the outputs that are kept for it, the gradients, and numbers. It
    gives the gradients of the first inputs.

    Args:
        tensors: how many inputs the backward op takes.
        numbers: how many of the inputs after these it takes.
        kept: how many outputs, the last ones, are kept for it and have no gradient.
    """
    count = len(op._schema.arguments)

    class Differentiable(torch.autograd.Function):
        forward = _forward_of(op)

        @staticmethod
        def setup_context(ctx, inputs, output):
            extra = output[-kept:] if kept else ()
            ctx.save_for_backward(*inputs[:tensors], *extra)
            if kept:
                ctx.mark_non_differentiable(*extra)
            ctx.numbers = inputs[tensors : tensors + numbers]

        @staticmethod
        def backward(ctx, *grads):
            found = _several(backward_op(*ctx.saved_tensors, *grads[: len(grads) - kept], *ctx.numbers))
            return *found, *[None] * (count - len(found))

    return _where_wanted(Differentiable.apply, op)


def underivable(op: Op) -> Callable[..., Any]:
    """An op that raises when a derivative is asked for, in reverse or in forward mode, instead of giving 0."""

    class Underivable(torch.autograd.Function):
        forward = _forward_of(op)

        @staticmethod
        def setup_context(ctx, inputs, output):
            """Keeps nothing."""

        backward = jvp = staticmethod(_no_derivative)

    return _where_wanted(Underivable.apply, op)


def _where_wanted(function: Callable[..., Any], op: Op) -> Callable[..., Any]:
    """A function around an op that derivatives need; elsewhere the op without torch's layers for them.

    On small lattices those layers take a fifth of the time.
    """

    def call(*inputs):
        wanted = torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0
        if wanted or torch.compiler.is_compiling():
            return function(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    return call


def _forward_of(op: Op) -> staticmethod:
    """The forward method of an autograd Function around an op.

    torch binds the inputs to its signature at every call: one that is worked out before, and has one name, costs least.
    """
    count = len(op._schema.arguments)

    def forward(*inputs):
        return op(*inputs[-count:])  # torch.compile gives a context before them where no gradient is wanted

    forward.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return staticmethod(forward)


def gradients(function: Callable[..., Any], inputs: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of inputs by autograd, for references: inside of an op autograd is switched off.

    Leaving inference mode switches it on, also below a dispatch mode, in which torch.func.vjp crashes. The function and
    its derivatives hold no lazy conjugates: below a mode `x.mH` and `x.conj()` are silently x.mT and x.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*leaves), leaves, grads)
