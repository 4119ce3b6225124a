"""Changing how gradients pass through nonlinear operations, wherever in a network they are written.

Hooks on modules see neither `F.relu` nor which call of a shared `nn.ReLU` a gradient belongs to, and in-place
operations write over what they would keep. A `TorchFunctionMode` sees every operation once, as it is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cutaway.errors import InspectionError

Run = Callable[..., Any]

_RECTIFIERS = frozenset({"relu", "relu6"})
_OTHER_RECTIFIERS = frozenset(
    {"leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "softplus"}
    | {"logsigmoid", "hardshrink", "softshrink", "threshold"}
)
_BOUNDED = frozenset({"sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign", "tanhshrink", "clamp"})
_MAXIMA = frozenset({f"{kind}max_pool{rank}d" for kind in ("", "adaptive_") for rank in (1, 2, 3)} | {"amax"})
_LARGER_OF_TWO = frozenset({"max", "maximum", "fmax"})
_BILINEAR: dict[str, Run] = {"mul": torch.mul, "matmul": torch.matmul, "bmm": torch.bmm}


class Rule(TorchFunctionMode):
    """Sees every nonlinear operation of a forward pass whose input leads back to the pictures.

    A subclass says in `replaced` what is computed in an operation's place. In-place operations still write into
    their tensor.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given, named = _by_place(args, kwargs)
        name = operation(func, given, named)
        if name is None or not given or not isinstance(given[0], Tensor):
            return func(*args, **kwargs)
        args, kwargs = given, named
        if name == "relu" and len(args) == 2 and isinstance(args[1], Tensor) and _is_zero(args[0]):
            args = (args[1], args[0])  # of `torch.maximum(zero, x)`
        inputs = args[0]
        run = functools.partial(_run, func, args[1:], kwargs)
        if name in _BILINEAR:
            return self._bilinear(name, func, args, kwargs)
        values = self.replaced(name, inputs, run)
        if values is None:
            return func(*args, **kwargs)
        if name in _MAXIMA:
            plain = func(inputs.detach(), *args[1:], **kwargs)
            return (values, *plain[1:]) if isinstance(plain, tuple) else values
        return inputs.copy_(values) if _writes(func, args, kwargs) else values

    def replaced(self, name: str, inputs: Tensor, run: Run) -> Tensor | None:
        """What stands in an operation's place, or None for the operation itself.

        Args:
            name: The operation.
            inputs: Its first argument.
            run: Computes it on another first argument, which it may write into.
        """
        raise NotImplementedError

    def _bilinear(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


class Guided(Rule):
    """Guided backpropagation: only positive gradients pass a ReLU (Springenberg et al., arXiv:1412.6806).

    Attributes:
        rectified: The ReLUs that it met.
        others: Names of activations that the method says nothing of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rectified = 0
        self.others: set[str] = set()

    def replaced(self, name: str, inputs: Tensor, run: Run) -> Tensor | None:
        """A guided step for a ReLU."""
        if name in _OTHER_RECTIFIERS:
            self.others.add(name)
        if name not in _RECTIFIERS:
            return None
        self.rectified += 1
        return _applied(_GuidedStep, inputs, run)


class Recording(Rule):
    """Keeps what goes into every nonlinear operation, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Tensor, ...]]] = []

    def replaced(self, name: str, inputs: Tensor, run: Run) -> Tensor | None:
        """The operation itself, once its input is kept."""
        self.calls.append((name, (inputs.detach().clone(),)))
        return None

    def _bilinear(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.calls.append((name, tuple(arg.detach().clone() for arg in args if isinstance(arg, Tensor))))
        return func(*args, **kwargs)


class Rescaling(Rule):
    """DeepLIFT's rescale rule, against the inputs that `Recording` kept of the baseline.

    The multiplier of an activation is the difference of its outputs over the difference of its inputs, and its
    gradient where the inputs are the same (Shrikumar et al., arXiv:1704.02685, section 3.5.2). A maximum hands the
    difference to the places that held it (as shap and captum do, also where windows overlap). A product takes each
    factor's multiplier at the mean of the other, which shares its difference out without a rest.
    """

    def __init__(self, reference: Recording) -> None:
        super().__init__()
        self._calls = list(reference.calls)
        self._at = 0

    def replaced(self, name: str, inputs: Tensor, run: Run) -> Tensor | None:
        """A rescaled step for an activation or a maximum."""
        (reference,) = self._reference(name, (inputs,))
        step = _MaximumStep if name in _MAXIMA else _RescaledStep
        return _applied(step, inputs, run, reference)

    def _bilinear(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = tuple(arg for arg in args if isinstance(arg, Tensor))
        reference = self._reference(name, tensors)
        if not all(tensor.requires_grad for tensor in tensors):
            return func(*args, **kwargs)
        values: Tensor = _ProductStep.apply(*tensors, *reference, _BILINEAR[name])
        return args[0].copy_(values) if _writes(func, args, kwargs) else values

    def _reference(self, name: str, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        expected, tensors = self._calls[self._at] if self._at < len(self._calls) else ("", ())
        self._at += 1
        if expected != name or [tensor.shape for tensor in tensors] != [tensor.shape for tensor in inputs]:
            raise InspectionError(
                "The network takes another way for the baseline than for the pictures, so there is no telling what to "
                f"compare its {name} with.",
                hint="Integrated gradients and occlusion don't need the ways to be the same.",
            )
        return tensors


def operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The nonlinear operation that a function of torch computes, by one name for all of its spellings, or None."""
    name: str = getattr(func, "__name__", "")
    if name.startswith("__"):
        return None
    name = name.removesuffix("_with_indices").strip("_")
    name = {"multiply": "mul", "clip": "clamp", "clip_min": "clamp_min"}.get(name, name)
    if name in _BILINEAR:
        factors = [arg for arg in args if isinstance(arg, Tensor)]
        both = len(args) == 2 and len(factors) == 2 and all(factor.is_floating_point() for factor in factors)
        return name if both and "out" not in kwargs else None
    if name == "clamp_min" or (name == "clamp" and _bound(args, kwargs, 2, "max") is None):
        low = _bound(args, kwargs, 1, "min")
        return "relu" if isinstance(low, int | float) and low == 0 else "clamp"
    if name == "clamp_max":
        return "clamp"
    if name in _LARGER_OF_TWO:
        two = len(args) == 2 and all(isinstance(arg, Tensor) for arg in args)
        return "relu" if two and any(map(_is_zero, args)) else None
    if name == "threshold" and tuple(args[1:3]) == (0, 0):
        return "relu"
    if name == "hardtanh" and (_bound(args, kwargs, 1, "min_val"), _bound(args, kwargs, 2, "max_val")) == (0, 6):
        return "relu6"
    known = _RECTIFIERS | _OTHER_RECTIFIERS | _BOUNDED | _MAXIMA
    return name if name in known else None


def _by_place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `relu(input=x)` and `torch.maximum(x, other=y)` by their places, where all others look."""
    kwargs = dict(kwargs)
    for name in ("input", "other")[len(args) :]:
        if name not in kwargs:
            break
        args = (*args, kwargs.pop(name))
    return args, kwargs


def _is_zero(value: Tensor) -> bool:
    """Whether a tensor is zero, whatever the pictures are."""
    return not value.requires_grad and not value.any()


def _writes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call writes its result into its first argument."""
    name: str = getattr(func, "__name__", "")
    # `F.relu(x, True)`: of all activations the flag is the last argument.
    return name.endswith("_") or bool(kwargs.get("inplace")) or args[-1] is True


def _bound(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str) -> Any:
    return args[at] if len(args) > at else kwargs.get(name)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Tensor) -> Any:
    result = func(inputs, *args, **kwargs)
    return result[0] if isinstance(result, tuple) else result


def _applied(step: type[torch.autograd.Function], inputs: Tensor, run: Run, *others: Any) -> Tensor | None:
    if not inputs.requires_grad:
        return None
    values: Tensor = step.apply(inputs.clone(), run, *others)
    return values


def _pulled_back(run: Run, at: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at an operation's input, from the one at its output."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (pulled,) = torch.autograd.grad(run(leaf.clone()), leaf, gradient)
    return pulled


class _GuidedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, run: Run) -> Any:
        ctx.save_for_backward(inputs)
        ctx.run = run
        return run(inputs.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inputs,) = ctx.saved_tensors
        return _pulled_back(ctx.run, inputs, gradients[0]).clamp(min=0), None


_SAME = 1e-6
"""Inputs nearer to each other than this are the same: the quotient of such differences is rounding noise."""


class _RescaledStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, run: Run, reference: Tensor) -> Any:
        ctx.save_for_backward(inputs, reference)
        ctx.run = run
        return run(inputs.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        inputs, reference = ctx.saved_tensors
        (gradient,) = gradients
        moved = inputs - reference
        change = ctx.run(inputs.clone()) - ctx.run(reference.clone())
        same = moved.abs() < _SAME
        rescaled = gradient * change / moved.masked_fill(same, 1)
        return torch.where(same, _pulled_back(ctx.run, inputs, gradient), rescaled), None, None


class _MaximumStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, run: Run, reference: Tensor) -> Any:
        ctx.save_for_backward(inputs, reference)
        ctx.run = run
        return run(inputs.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        inputs, reference = ctx.saved_tensors
        (gradient,) = gradients
        highest, lowest = ctx.run(inputs.clone()), ctx.run(reference.clone())
        larger = torch.maximum(highest, lowest)
        # From the baseline's maximum up to the larger one where the picture holds it, and on to the picture's maximum
        # where the baseline held it.
        shared = _pulled_back(ctx.run, inputs, gradient * (larger - lowest))
        shared = shared + _pulled_back(ctx.run, reference, gradient * (highest - larger))
        moved = inputs - reference
        same = moved.abs() < _SAME
        plain = _pulled_back(ctx.run, inputs, gradient)
        return torch.where(same, plain, shared / moved.masked_fill(same, 1)), None, None


class _ProductStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, left_then: Tensor, right_then: Tensor, product: Run) -> Any:
        ctx.save_for_backward((left + left_then) / 2, (right + right_then) / 2)
        ctx.product = product
        return product(left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        with torch.enable_grad():
            middle = tuple(tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
            left, right = torch.autograd.grad(ctx.product(*middle), middle, gradients[0])
        return left, right, None, None, None
