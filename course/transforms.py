"""Functions at the other end within the transformations of torch.func: vmap, grad, jacrev, jacfwd and their like.

A transformation hands a function tensors that stand for many, or that remember how they came about; such tensors do not
travel. `through` has the function asked with plain tensors alone: one call for each of the many, and for derivatives
backward passes, which do cross. Within a single jvp, `pushed` does so with the graph of the result, whose gradient may
be asked for in weights that only the other end knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import (
    JvpInterpreter,
    retrieve_all_functorch_interpreters,
    temporarily_pop_interpreter_stack,
)
from torch.autograd import forward_ad

Function = Callable[..., "Tensor | tuple[Tensor, ...]"]


def transformed(value) -> bool:
    """Whether a transformation made this tensor."""
    return isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value)


def through(function: Function, *tensors: Tensor):
    """function(*tensors), where it takes plain tensors alone."""
    return Through.apply(function, *tensors) if any(map(transformed, tensors)) else function(*tensors)


def in_one_direction(values) -> bool:
    """Whether what is at work is one jvp, or torch's own dual numbers, and a value has a derivative there."""
    levels = retrieve_all_functorch_interpreters()
    one = not levels or (len(levels) == 1 and isinstance(levels[0], JvpInterpreter))
    return one and any(isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None for x in values)


def pushed(function: Function, *tensors: Tensor):
    """function(*tensors) and its derivative, as dual numbers; both keep their graph where gradients are tracked."""
    levels, again = retrieve_all_functorch_interpreters(), torch.is_grad_enabled()

    def plain(x: Tensor) -> Tensor:
        return torch._C._functorch._unwrap_for_grad(x, levels[0].level()) if levels else x

    pairs = [forward_ad.unpack_dual(x) for x in tensors]
    primals = [plain(pair.primal) for pair in pairs]
    ways = [torch.zeros_like(x) if pair.tangent is None else plain(pair.tangent) for x, pair in zip(primals, pairs)]
    with (
        temporarily_pop_interpreter_stack() if levels else contextlib.nullcontext(),
        forward_ad._set_fwd_grad_enabled(False),
    ):
        values, rates = _values_and_rates(function, primals, ways, again)
    found = [
        forward_ad.make_dual(value, rate) if again else forward_ad.make_dual(value.detach(), rate.detach())
        for value, rate in zip(values, rates, strict=True)
    ]
    return found[0] if len(found) == 1 else tuple(found)


class Through(torch.autograd.Function):
    """A function that takes plain tensors alone, as all transformations want it."""

    @staticmethod
    def forward(function, *tensors):
        return function(*(tensor.detach() for tensor in tensors))

    @staticmethod
    def setup_context(ctx, inputs, output):
        function, *tensors = inputs
        ctx.function, ctx.count = function, len(output) if isinstance(output, tuple) else 1
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, *gradients):
        return None, *through(_pullback(ctx.function, ctx.count), *gradients, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx, _, *tangents):
        tensors = ctx.saved_tensors
        ways = [torch.zeros_like(x) if v is None else v for x, v in zip(tensors, tangents, strict=True)]
        return through(_pushforward(ctx.function), *tensors, *ways)

    @staticmethod
    def vmap(info, in_dims, function, *tensors):
        dims = in_dims[1:]
        each = [
            through(function, *(x if d is None else x.select(d, k) for x, d in zip(tensors, dims, strict=True)))
            for k in range(info.batch_size)
        ]
        if isinstance(each[0], tuple):
            return tuple(map(torch.stack, zip(*each, strict=True))), (0,) * len(each[0])
        return torch.stack(each), 0


def _pullback(function: Function, count: int) -> Function:
    """(gradients of `count` results, tensors) → the gradients of the tensors."""

    def pulled(*args):
        gradients, tensors, again = args[:count], args[count:], _differentiated(args)
        with torch.enable_grad():
            inputs = _inputs(tensors)
            found = _gradients(_values(function, inputs), inputs, gradients, again)
        return tuple(found)

    return pulled


def _pushforward(function: Function) -> Function:
    """(tensors, directions) → the derivatives of the results in these directions, by differentiating the pullback."""

    def pushed(*args):
        tensors, ways, again = args[: len(args) // 2], args[len(args) // 2 :], _differentiated(args)
        _, found = _values_and_rates(function, tensors, ways, again)
        return found[0] if len(found) == 1 else tuple(found)

    return pushed


def _values_and_rates(function: Function, tensors, ways, again: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The results, and their derivatives along `ways`. again: whether those will themselves be differentiated."""
    with torch.enable_grad():
        inputs = _inputs(tensors)
        values = _values(function, inputs)
        weights = [torch.zeros_like(value, requires_grad=True) for value in values]
        pulled = _gradients(values, inputs, weights, True)
        total = sum((gradient * way).sum() for gradient, way in zip(pulled, ways, strict=True))
        return values, _gradients([total], weights, [torch.ones_like(total)], again)


def _differentiated(tensors) -> bool:
    """Whether what is computed of these will itself be differentiated."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _inputs(tensors) -> list[Tensor]:
    return [x if x.requires_grad else x.detach().requires_grad_(x.is_floating_point()) for x in tensors]


def _values(function: Function, inputs) -> list[Tensor]:
    found = function(*inputs)
    return list(found) if isinstance(found, tuple) else [found]


def _gradients(values, inputs, gradients, again: bool) -> list[Tensor]:
    """Of the inputs; zero for those that no value depends on."""
    ends = [(value, gradient) for value, gradient in zip(values, gradients, strict=True) if value.requires_grad]
    wanted = [k for k, x in enumerate(inputs) if x.requires_grad]
    found = [torch.zeros_like(x) for x in inputs]
    if ends and wanted:
        outputs, weights = zip(*ends, strict=True)
        asked = [inputs[k] for k in wanted]
        for k, gradient in zip(
            wanted, torch.autograd.grad(outputs, asked, weights, allow_unused=True, create_graph=again), strict=True
        ):
            found[k] = found[k] if gradient is None else gradient
    return found
