"""Every setting of a training run: flat, validated, and free of torch."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from cutaway.errors import SettingsError

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["cosine", "constant"]
Monitor = Literal["valid_accuracy", "valid_loss"]


class TrainSettings(BaseModel):
    """What a run is made of. Given again, the same settings train the same network."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    data: str = "fashion-mnist-sample"
    """fashion-mnist-sample, fashion-mnist, mnist, cifar10, folder:PATH or csv:FILE."""
    network: str = "fashion-cnn-bn"
    """mlp, lenet5, fashion-cnn, fashion-cnn-bn, resnet-small or torchvision:NAME."""
    network_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments from the network's allow-list, such as {"width": 32}; for the YAML file."""
    out: Path = Path("runs/latest")
    """The run's directory. Where it holds a run already, that run goes on."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Passes over the training split."""
    batch_size: int = Field(default=128, ge=1, le=1_000_000)
    """Pictures per step."""
    optimizer: Optimizer = "adamw"
    """adam, adamw or sgd."""
    lr: float = Field(default=0.003, gt=0, le=100)
    """Learning rate, at its highest point."""
    schedule: Schedule = "cosine"
    """cosine falls to zero over all epochs; constant stays, and lets a finished run be extended."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the learning rate rises linearly; at most a tenth of the run with cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Decoupled in adamw, added to the gradient in adam and sgd."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the split, the initial weights, the order of pictures, and dropout."""
    image_size: int | None = Field(default=None, ge=1, le=4096)
    """Side of the network's input in pixels; by default the data's own, or what the network was designed for."""
    skip_unreadable: bool = False
    """Leave files out that cannot be decoded, instead of stopping."""
    monitor: Monitor = "valid_accuracy"
    """The metric that decides which bundle is the best."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of torch; 0 leaves it the number of cores. Another number rounds differently in the last bits."""
    workers: int = Field(default=0, ge=0, le=256)
    """Processes that decode pictures, where they don't fit in memory."""
    memory_limit: int = Field(default=512, ge=0, le=1_000_000)
    """Decoded pictures of a folder are kept in memory up to this many MB; beyond it, workers decode them each time."""
    channels_last: bool = True
    """Keep tensors in the channels-last memory format, which convolutions run faster in."""
    save_every: int = Field(default=0, ge=0)
    """Steps between bundles within an epoch; 0 for none. A bundle is saved after each epoch in any case."""
    save_minutes: float = Field(default=0, ge=0)
    """Minutes after which the next step's end saves a bundle; 0 for none."""
    save_in_background: bool = True
    """Write bundles while training goes on; otherwise training waits for the disk."""
    keep_last: int = Field(default=2, ge=2, le=1_000_000)
    """Newest bundles to keep."""
    keep_best: int = Field(default=1, ge=1, le=1_000_000)
    """Bundles with the best monitored metric to keep."""
    keep_every: int = Field(default=0, ge=0)
    """Keep the bundles after every so many steps too; 0 for none."""
    log_every: int = Field(default=20, ge=1)
    """Steps between entries of loss and learning rate in the journal."""

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        kind, _, number = device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (":" in device and not (kind == "cuda" and number.isdigit())):
            raise ValueError("must be auto, cpu, cuda, cuda:NUMBER or mps")
        return device


_LARGEST_YAML = 2**20

# Settings that may differ when a run is resumed, since they don't touch what is computed. Every other one must agree.
FREE_TO_CHANGE = frozenset(
    {
        "out",
        "threads",
        "workers",
        "memory_limit",
        "save_every",
        "save_minutes",
        "save_in_background",
        "keep_last",
        "keep_best",
        "keep_every",
        "log_every",
        "device",
        "skip_unreadable",
    }
)
# Settings that no run can change: the state that was saved would not fit.
NEVER_TO_CHANGE = frozenset({"network", "network_arguments", "image_size", "optimizer"})


def validated(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from plain values.

    Raises:
        SettingsError: A value is unknown or out of range, in a sentence of our own.
    """
    try:
        return TrainSettings(**values)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise SettingsError("The settings are nested too deeply.") from error
        sentence, hint = in_words(error)
        raise SettingsError(sentence, hint=hint) from error


def in_words(error: ValidationError) -> tuple[str, str]:
    """The first fault that pydantic found, as a sentence and a hint."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"]) or "the settings"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, TrainSettings.model_fields, n=1)
        return f"There is no setting named '{name}'.", f"Did you mean '{near[0]}'?" if near else ""
    said = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return (
        f"Setting '{name}' cannot be {reprlib.repr(fault['input'])}.",
        f"It should be {said.removeprefix('must be ')}.",
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML settings file, read without running anything that it holds, and without its aliases.

    Raises:
        SettingsError: The file is missing, not YAML, too large, or not a mapping of names to values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LARGEST_YAML:
            raise SettingsError(f"The settings file {path} is larger than settings are.")
        values = yaml.load(text, _PlainLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise SettingsError(f"The settings file {path} is not valid YAML{line}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"The settings file {path} is not a mapping.", hint="Write one 'name: value' a line.")
    return {key.replace("-", "_"): value for key, value in values.items()}


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, with which a few lines stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Composes one node of the document."""
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "settings have no aliases", mark)
        return super().compose_node(parent, index)


def to_yaml(settings: TrainSettings) -> str:
    """The settings as the YAML that `read_yaml` reads."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
