"""Which class each map explains, and against which other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.errors import InspectionError

Classes = int | Sequence[int] | Sequence[Sequence[int]] | Tensor
"""One class for all pictures, one per picture [N], or T per picture [N, T] or, the same ones for all, [1, T]."""


@dataclass(frozen=True)
class Question:
    """What a person asked for, before the logits are known.

    Attributes:
        class_index: The class to explain; -1 is a picture's top class.
        against: "Why that class rather than this one"; -1 is the likeliest other class.
        top: Explain each picture's so many top classes instead.
    """

    class_index: Classes = -1
    against: Classes | None = None
    top: int | None = None

    def of_each(self, count: int) -> list[Question]:
        """What is asked of each of `count` pictures.

        Raises:
            InspectionError: The numbers fit no batch of so many.
        """

        def own(name: str, given: Classes) -> Sequence[Tensor]:
            numbers = _numbers(name, given, count)
            return torch.split(numbers, 1) if numbers.dim() and len(numbers) == count else [numbers] * count

        of_each = own("class_index", self.class_index if self.top is None else -1)
        against = [None] * count if self.against is None else own("against", self.against)
        return [Question(*numbers, self.top) for numbers in zip(of_each, against, strict=True)]


@dataclass(frozen=True)
class Targets:
    """The answer for a batch.

    Attributes:
        class_index: int64 [N, T].
        against: int64 [N, T], or None.
        is_single: One target per picture was asked for, so that the dimension T is left out of the result.
    """

    class_index: Tensor
    against: Tensor | None
    is_single: bool

    def __len__(self) -> int:
        return self.class_index.shape[1]

    def scores(self, logits: Tensor) -> Tensor:
        """What is explained: the class's logit, or how far it lies above the other's. [N, K] -> [N, T]."""
        scores = logits.gather(1, self.class_index)
        return scores if self.against is None else scores - logits.gather(1, self.against)

    def gradient_of_score(self, number: int, logits: Tensor) -> Tensor:
        """The gradient at the logits [N, K] of what is explained as each picture's target of that number: [N, K]."""
        gradient = torch.zeros_like(logits).scatter_(1, self.class_index[:, number : number + 1], 1)
        return gradient if self.against is None else gradient.scatter_(1, self.against[:, number : number + 1], -1)

    def scores_of(self, sample: int, logits: Tensor) -> Tensor:
        """The same of one picture's targets for many logits: [B, K] -> [B, T]."""
        scores = logits[:, self.class_index[sample]]
        return scores if self.against is None else scores - logits[:, self.against[sample]]

    def squeezed(self, values: Tensor) -> Tensor:
        """Leaves out T where one target was asked for: [N, T, ...] -> [N, ...]."""
        return values[:, 0] if self.is_single else values


def targets(question: Question, logits: Tensor) -> Targets:
    """Looks the asked classes up in the logits [N, K].

    Raises:
        InspectionError: There is no such class, the numbers fit no batch, or a class is held against itself.
    """
    count, num_classes = logits.shape
    if question.top is not None:
        if not 1 <= question.top <= num_classes:
            raise InspectionError(
                f"The top {question.top} of {num_classes} classes cannot be explained.",
                hint=f"Ask for 1 to {num_classes}.",
            )
        chosen, is_single = logits.topk(question.top, 1).indices, False
    elif isinstance(question.class_index, int) and question.class_index == -1:
        chosen, is_single = logits.argmax(1, keepdim=True), True
    elif type(question.class_index) is int and 0 <= question.class_index < num_classes:
        # As what follows would have it, in a quarter of the time.
        chosen, is_single = logits.new_full((count, 1), question.class_index, dtype=torch.int64), True
    else:
        chosen = _existing(_numbers("class_index", question.class_index, count), logits)
        is_single = chosen.dim() < 2
        chosen = _spread(chosen, count)
        chosen = torch.where(chosen < 0, logits.argmax(1, keepdim=True), chosen)
    if question.against is None:
        return Targets(chosen, None, is_single)
    against = _spread(_existing(_numbers("against", question.against, count), logits), count)
    num_targets = max(chosen.shape[1], against.shape[1])
    if not {chosen.shape[1], against.shape[1]} <= {1, num_targets}:
        raise InspectionError(
            f"{chosen.shape[1]} classes a picture cannot be held against {against.shape[1]} others.",
            hint="Give one class to hold all of them against, or one for each.",
        )
    chosen, against = chosen.expand(-1, num_targets), against.expand(-1, num_targets)
    others = logits[:, None].expand(-1, num_targets, -1).scatter(2, chosen[..., None], -torch.inf)
    against = torch.where(against < 0, others.argmax(2), against)
    if (chosen == against).any():
        number = int(chosen[chosen == against][0])
        raise InspectionError(
            f"Class {number} cannot be held against itself.", hint="Hold it against another one; -1 is the likeliest."
        )
    return Targets(chosen, against, is_single and num_targets == 1)


def joined(each: Sequence[Targets]) -> Targets:
    """The targets of several batches, for the same question, as those of one batch."""
    against = [one.against for one in each if one.against is not None]
    return Targets(
        torch.cat([one.class_index for one in each]), torch.cat(against) if against else None, each[0].is_single
    )


def _numbers(name: str, given: Classes, count: int) -> Tensor:
    """Integers [], [N] or [1 or N, T] for N = `count` pictures."""
    try:
        numbers = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InspectionError(f"{name} must be integers, not {given!r}.") from error
    fits = numbers.dim() == 0 or numbers.shape == (count,) or (numbers.dim() == 2 and len(numbers) in (1, count))
    if numbers.is_floating_point() or numbers.dtype == torch.bool or not fits or not numbers.numel():
        raise InspectionError(
            f"{name} must be one integer, or one (or a row of several) for each of the {count} pictures; it is "
            f"{numbers.dtype} {list(numbers.shape)}."
        )
    return numbers.long()


def _existing(numbers: Tensor, logits: Tensor) -> Tensor:
    """The same numbers beside the logits [N, K], where each is a class or -1."""
    num_classes = logits.shape[1]
    if not -1 <= int(numbers.min()) <= int(numbers.max()) < num_classes:
        wrong = numbers[(numbers < -1) | (numbers >= num_classes)].flatten()[0].item()
        raise InspectionError(
            f"There is no class {wrong}.", hint=f"Classes are 0 to {num_classes - 1}; -1 is the top class."
        )
    return numbers.to(logits.device)


def _spread(numbers: Tensor, count: int) -> Tensor:
    """[] or [N] or [1 or N, T] -> [N, T]."""
    if numbers.dim() < 2:
        return numbers.expand(count)[:, None]
    return numbers.expand(count, -1)
