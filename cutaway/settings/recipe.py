"""What an optimizer's step does: the loss and the optimizer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cutaway.settings.group import SettingsGroup

Optimizer = Literal["adadelta", "adagrad", "adam", "adamax", "adamw", "nadam", "radam", "rmsprop", "sgd"]
Loss = Literal["cross-entropy", "focal", "mse", "brier"]
Beta = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class RecipeSettings(SettingsGroup):
    """Loss and optimizer."""

    title: ClassVar[str] = "recipe"

    optimizer: Optimizer = "adamw"
    """adadelta, adagrad, adam, adamax, adamw, nadam, radam, rmsprop or sgd."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd and rmsprop."""
    nesterov: bool = False
    """Nesterov's momentum, of sgd."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """How long adam, adamw, adamax, nadam and radam remember gradients and their squares."""
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """How long rmsprop remembers squares."""
    rho: float = Field(default=0.9, ge=0, lt=1)
    """How long adadelta remembers squares."""
    eps: float | None = Field(default=None, gt=0, le=1)
    """What keeps divisions from zero; by default as torch has it for each optimizer."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Of weights but not of norms and biases; decoupled in adamw, otherwise added to the gradient."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each stage of the network learns at this much of the rate of the stage above it; the head at the whole rate."""
    loss: Loss = "cross-entropy"
    """cross-entropy, focal, mse (scores against one-hot targets) or brier (probabilities against them)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    focal_gamma: float = Field(default=2.0, ge=0, le=100)
    """How little the focal loss counts what is right already; 0 is cross-entropy."""
    class_weights: tuple[Weight, ...] = ()
    """How much a sample of each class counts in the training loss against the others, one number for each class in the
    order of their names."""
    l1: float = Field(default=0.0, ge=0, le=100)
    """Adds l1 * sum |w| to what is minimised, over weights but not norms and biases; not to the loss that is told."""
    l2: float = Field(default=0.0, ge=0, le=100)
    """Likewise l2 * sum w^2."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Longest that the gradients of a step may be, as one vector; 0 for any."""
    clip_value: float = Field(default=0.0, ge=0)
    """Largest that any entry of the gradients may be; 0 for any."""
    accumulate: int = Field(default=1, ge=1, le=1_000_000)
    """Batches whose gradients are added up before a step, as if they were one batch that need not fit in memory."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Average the weights over about 1 / (1 - ema_decay) steps, and validate, inspect and export the average; 0 for no.
    """
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 compute in half precision what is exact enough in it; fp16 scales gradients. Validation is fp32."""
    compile: bool = False
    """Compile the network's training pass with torch.compile; pays off over many steps."""

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and (info.data.get("optimizer") != "sgd" or info.data.get("momentum") == 0):
            raise ValueError("must be left out, or go with --optimizer sgd and a --momentum above 0")
        return nesterov


NEVER_TO_CHANGE = frozenset({"optimizer", "layer_decay"})
