"""A person's own objects in a training: loss, transform, metrics, and what a bundle keeps of them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from cutaway.errors import CutawayError, DataError, SettingsError
from cutaway.evaluation import Evaluation
from cutaway.networks import OwnCode
from cutaway.networks.own import is_own
from cutaway.settings import TrainSettings
from cutaway.settings.watching import MODES
from cutaway.train.callbacks import Callback
from cutaway.train.generators import generator_states, restore_generators

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits float [B, K] and targets (int64 [B]; float32 [B, K] where labels are mixed) to the batch's mean, a scalar."""
Transform = Callable[..., Tensor]
"""Pictures uint8 [B, C, h, w], and a `torch.Generator` where it takes a second argument, to pictures of that shape."""
Metric = Callable[[Tensor, Tensor], Any]
"""Logits float32 [N, K] and labels int64 [N] of the validation split, on the CPU, to a number."""

REMEMBERED_AS = "own"
INEXACT = "inexact"
# What `override` may name beside the settings.
OVERRIDABLE = ("loss", "transform")


@dataclass(frozen=True)
class OwnObjects:
    """What a person handed to `train` beside the settings; none of it by default.

    Attributes:
        code: Their network, or permission to build it.
        loss: In place of the settings' loss.
        transform: Applied after the settings' augmentation.
        metrics: By name.
        callbacks: Called in this order.
    """

    code: OwnCode = field(default_factory=OwnCode)
    loss: Loss | None = None
    transform: Transform | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: tuple[Callback, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.loss, nn.Module) and any(parameter.requires_grad for parameter in self.loss.parameters()):
            raise SettingsError(
                "The loss has parameters of its own, which would be neither trained nor saved.",
                hint="Make them part of the network, or buffers where they are constants.",
            )
        for name in self.metrics:
            if not name.isidentifier():
                raise SettingsError(f"A metric cannot be called {name!r}.", hint="Use letters, digits and underscores.")
            if f"valid_{name}" in MODES:
                raise SettingsError(f"There is a metric {name} already.", hint="Give yours another name.")

    def check_beside(self, settings: TrainSettings) -> None:
        """Refuses settings that one's own objects would leave without effect.

        Raises:
            SettingsError: Names the first.
        """
        if is_own(settings.network) and (settings.pretrained or settings.weights or settings.init_from):
            raise SettingsError(
                "Weights to begin with are for the networks that cutaway has a name for.",
                hint="Load them into your own network before you hand it in.",
            )
        if self.loss is None:
            return
        if settings.balance == "loss":
            raise SettingsError(
                "balance='loss' weights the cross-entropy, which a loss of your own replaces.",
                hint="Weight the classes in your loss, or draw them equally: balance='sample'.",
            )
        usual = TrainSettings()
        for name in ("loss", "label_smoothing", "focal_gamma", "class_weights"):
            if getattr(settings, name) != getattr(usual, name):
                raise SettingsError(
                    f"The setting {name} belongs to a loss of cutaway's, which a loss of your own replaces.",
                    hint="Leave one of the two out.",
                )

    @property
    def monitorable(self) -> tuple[str, ...]:
        """The names under which an epoch has the metrics."""
        return tuple(f"valid_{name}" for name in self.metrics)

    def record(self) -> dict[str, JsonValue]:
        """What a bundle keeps of the objects that change what is computed: their names, as far as they have any."""
        named = {"loss": self.loss, "transform": self.transform}
        return {what: qualified_name(which) for what, which in named.items() if which is not None}

    def differences(self, recorded: JsonValue) -> dict[str, tuple[str, str]]:
        """What -> what it was and what it is, against the record of a bundle."""
        before, now = recorded if isinstance(recorded, dict) else {}, self.record()
        return {
            what: (str(before.get(what, "none of one's own")), str(now.get(what, "none of one's own")))
            for what in OVERRIDABLE
            if before.get(what) != now.get(what)
        }

    def measure(self, answers: Evaluation, split: str = "valid") -> dict[str, float]:
        """The person's metrics over a split, by the names that they have beside the others: `valid_NAME`, `test_NAME`.

        Raises:
            CutawayError: One of them gave no number.
        """
        return {
            f"{split}_{name}": _number(name, metric(answers.logits, answers.labels))
            for name, metric in self.metrics.items()
        }


NOTHING_OWN = OwnObjects()


def qualified_name(which: object) -> str:
    """Module and name of a function or class, or of an object's class: enough to tell another one, not to find it."""
    named = which if hasattr(which, "__qualname__") else type(which)
    return f"{named.__module__}.{named.__qualname__}"


def own_loss(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    """A person's loss of a batch.

    Raises:
        CutawayError: It gave something that no gradient can be taken of.
    """
    value = loss(logits, targets)
    if not isinstance(value, Tensor) or value.dim() or not value.requires_grad:
        gave = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise CutawayError(
            f"The loss {qualified_name(loss)} gave {gave}, not a scalar that depends on the logits.",
            hint="End it in .mean(), and compute it of the logits in torch.",
        )
    return value


def transformed(transform: Transform, pictures: Tensor, *, seed: int, step: int) -> Tensor:
    """Pictures after a person's transform.

    A transform with two arguments is given a CPU generator that is a function of (seed, step). One that draws from the
    global generators of torch, numpy or Python is repeated by a resumed run as well, since bundles hold their states.

    Args:
        transform: Of the person.
        pictures: uint8 [B, C, h, w].
        seed: Of the run.
        step: Steps so far.

    Raises:
        DataError: It gave anything but pictures of the same shape and type.
    """
    if _takes_generator(transform):
        words = hashlib.sha256(f"transform {seed} {step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(words[:8], "big") >> 1)
        result = transform(pictures, generator)
    else:
        result = transform(pictures)
    if not isinstance(result, Tensor) or result.shape != pictures.shape or result.dtype != torch.uint8:
        is_tensor = isinstance(result, Tensor)
        gave = f"{result.dtype} {list(result.shape)}" if is_tensor else f"a {type(result).__name__}"
        raise DataError(
            f"The transform {qualified_name(transform)} made {gave} of uint8 {list(pictures.shape)}.",
            hint="It should give pictures of the same shape and type; size and normalisation are cutaway's.",
        )
    return result


def draws_elsewhere(transform: Transform, pictures: Tensor) -> bool:
    """Whether a transform gives other pictures for equal generators, so that a resumed run cannot repeat it."""
    before = generator_states(pictures.device)
    results = []
    for _ in range(2):
        restore_generators(before, pictures.device)
        results.append(transformed(transform, pictures.clone(), seed=0, step=0))
    restore_generators(before, pictures.device)
    return not torch.equal(*results)


def per_picture(transform: Callable[..., Tensor]) -> Transform:
    """Makes a transform of single pictures one of batches, so that each picture draws by itself.

    Those of torchvision draw once for all that they are given: handed to `train` as they are, they would flip a whole
    batch or nothing of it.

    Args:
        transform: uint8 [C, h, w], and a `torch.Generator` where it takes a second argument, to the same shape.

    Example:
        >>> train(settings, transform=per_picture(v2.RandomHorizontalFlip()))  # doctest: +SKIP
    """
    return _PerPicture(transform)


class _PerPicture:
    def __init__(self, transform: Callable[..., Tensor]) -> None:
        self.transform = transform
        self.takes_generator = _takes_generator(transform)
        self.__qualname__ = f"per_picture({qualified_name(transform)})"

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        more = (generator,) if self.takes_generator else ()
        return torch.stack([self.transform(picture, *more) for picture in pictures])


def _takes_generator(transform: Callable[..., object]) -> bool:
    if isinstance(transform, nn.Module):
        transform = transform.forward
    try:
        inspect.signature(transform).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        return False
    parameters = list(inspect.signature(transform).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return False
    # `def noisy(pictures, strength=0.1)` has a setting there, not a generator.
    return parameters[1].default is parameters[1].empty or parameters[1].name == "generator"


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CutawayError(f"The metric {name} gave no number but {type(value).__name__}.") from error
