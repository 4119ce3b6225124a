"""A network and the pictures that are explained to it: checked, on one device, and left as they were."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.evaluation import logits_of
from cutaway.hooks import seed_torch, untouched, why_alone, without_attention_fast_path

AT_A_TIME = 16
"""Pictures, or altered copies of one, that go through the network together unless asked otherwise."""

ClassIndex = int | Sequence[int] | Tensor


@dataclass(frozen=True)
class Subject:
    """What is being explained, inside `prepared`.

    Attributes:
        network: In evaluation mode, with every weight frozen.
        inputs: float [N, C, H, W], a copy on the network's device.
        logits: float [N, K].
        classes: int64 [N].
        at_a_time: The most pictures that go through the network together.
        alone: Why that is one, in words that follow upon "since": its answer to a picture depends on the pictures
            beside it. None where it does not, as usual.
    """

    network: nn.Module
    inputs: Tensor
    logits: Tensor
    classes: Tensor
    at_a_time: int
    alone: str | None = None

    def logits_at(self, inputs: Tensor) -> Tensor:
        """Logits [B, K] at float [B, C, H, W]; what the network writes into its input stays a copy of its own."""
        return logits_of(self.network(inputs.clone()))

    def scores(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """The logit of each picture's class: float [B]."""
        return self.logits_at(inputs).gather(1, classes[:, None])[:, 0]

    def scores_in_parts(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """`scores` of any number of pictures, without gradients."""
        parts = zip(torch.split(inputs, self.at_a_time), torch.split(classes, self.at_a_time), strict=True)
        with torch.no_grad():
            return torch.cat([self.scores(some, theirs) for some, theirs in parts])

    def parts(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The pictures a few at a time: which of all, inputs with `requires_grad`, classes."""
        for start in range(0, len(self.inputs), self.at_a_time):
            some = slice(start, start + self.at_a_time)
            yield some, self.inputs[some].detach().clone().requires_grad_(), self.classes[some]


@contextmanager
def prepared(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    purpose: str,
    gradients: bool = True,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Iterator[Subject]:
    """Gives a network and its pictures in the state in which every method works, and puts all back afterwards.

    The network runs in evaluation mode with frozen weights, which saves their gradients, with autograd on, and with
    torch's generators at `seed`. A compiled network runs uncompiled. One whose answer to a picture depends on the
    pictures beside it runs on one picture at a time. Warnings of what is done to it on the way stay unsaid.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed, in any memory format.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        purpose: What this is for, in sentences that refuse.
        gradients: Whether gradients are needed.
        seed: Of whatever is random.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: It cannot be done with this network, these pictures or these classes.
    """
    if gradients and torch.is_inference_mode_enabled():
        raise InspectionError(
            f"{purpose} needs gradients, which torch.inference_mode() rules out.",
            hint="Call it outside inference_mode.",
        )
    if not isinstance(inputs, Tensor):
        raise InspectionError(
            f"{purpose} takes a tensor of preprocessed pictures, not a {type(inputs).__name__}.",
            hint="Make one of an array by `torch.from_numpy`.",
        )
    if inputs.dim() != 4 or not inputs.is_floating_point() or 0 in inputs.shape:
        raise InspectionError(
            f"{purpose} takes preprocessed pictures as floats [N, C, H, W], not {inputs.dtype} {list(inputs.shape)}.",
            hint="Put one picture into a batch with `picture[None]`, and pixels through the network's preprocessing.",
        )
    if at_a_time < 1:
        raise InspectionError(f"At least one picture at a time has to go through the network, not {at_a_time}.")
    scripted = [name for name, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        raise InspectionError(
            f"{purpose} cannot look into TorchScript, which {scripted[0] or 'the network'} is.",
            hint="Use the module as it was before `torch.jit.script` or `torch.jit.trace`.",
        )
    whole, network = network, _unwrapped(network)
    with ExitStack() as stack:
        stack.enter_context(untouched(whole))
        stack.enter_context(without_attention_fast_path())
        stack.enter_context(_uncompiled(whole))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.set_grad_enabled(gradients))
        network.eval().requires_grad_(False)
        like = next((tensor for tensor in network.parameters() if tensor.is_floating_point()), inputs)
        # A contiguous copy, which is no inference tensor, no view and nobody else's.
        copy = torch.empty(inputs.shape, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            copy.copy_(inputs)
            alone = why_alone(network, copy)
            at_a_time = at_a_time if alone is None else 1
            seed_torch(seed)
            subject = Subject(network, copy, torch.empty(0), torch.empty(0), at_a_time)
            logits = torch.cat([subject.logits_at(some) for some in torch.split(copy, at_a_time)])
        if len(logits) != len(copy):
            raise InspectionError(
                f"{purpose} needs logits [N, K] for N = {len(copy)} pictures, not {list(logits.shape)}.",
                hint="Wrap the network in a module that returns one row of logits per picture.",
            )
        classes = chosen_classes(class_index, logits)
        # What a network rules out may be -inf, where nobody asks for it.
        if logits.isnan().any() or not logits.gather(1, classes[:, None]).isfinite().all():
            raise InspectionError(
                "The network's logits are not finite.",
                hint="Have its weights diverged in training, or does the picture hold such values?",
            )
        yield Subject(network, copy, logits, classes, at_a_time, alone)


def chosen_classes(class_index: ClassIndex, logits: Tensor) -> Tensor:
    """The class of each picture, with -1 replaced by its top class: int64 [N].

    Raises:
        InspectionError: There is no such class, or not one for each picture.
    """
    try:
        chosen = torch.as_tensor(class_index, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InspectionError(f"class_index must be integers, not {class_index!r}.") from error
    count, num_classes = logits.shape
    if chosen.is_floating_point() or chosen.dtype == torch.bool or (chosen.dim() and chosen.shape != (count,)):
        raise InspectionError(
            f"class_index must be one integer, or one for each of the {count} pictures; it is "
            f"{chosen.dtype} {list(chosen.shape)}."
        )
    wrong = chosen[(chosen < -1) | (chosen >= num_classes)].flatten().tolist()
    if wrong:
        raise InspectionError(
            f"There is no class {wrong[0]}.", hint=f"Classes are 0 to {num_classes - 1}; -1 is the top class."
        )
    chosen = chosen.long().expand(count)
    return torch.where(chosen < 0, logits.argmax(1), chosen)


def gradient_of(scores: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of each picture's score at its own pixels: [B], [B, C, H, W] -> [B, C, H, W].

    Raises:
        InspectionError: The scores don't depend on the pictures by any way that autograd can go, or the gradient is
            not finite.
    """
    gradient: Tensor | None = None
    if scores.requires_grad:
        # Pictures don't mix in evaluation mode, so one sum gives every picture's own gradient.
        (gradient,) = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
    if gradient is None:
        raise InspectionError(
            "The network cuts off the gradients on their way from the logits to the pictures.",
            hint="Look for `detach`, `no_grad` and rounding in the forward pass; occlusion needs no gradients.",
        )
    return finite(gradient)


def finite(values: Tensor) -> Tensor:
    """The values themselves.

    Raises:
        InspectionError: Some are not finite, and would make maps that are blank.
    """
    if not values.isfinite().all():
        raise InspectionError(
            "The gradients of the network's logits at the pictures are not finite.",
            hint="Have its weights diverged, or has it a square root or a norm of zeros? Occlusion needs no gradients.",
        )
    return values


def _unwrapped(network: nn.Module) -> nn.Module:
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inside: nn.Module = network.module
        return inside
    return network


@contextmanager
def _uncompiled(network: nn.Module) -> Iterator[None]:
    """What compiled code does inside is seen by no hook and no function mode."""
    compiled = any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in network.modules()
    )
    if not compiled:
        yield
        return
    stance: Any = torch.compiler.set_stance("force_eager")
    with stance:
        yield
