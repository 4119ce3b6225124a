"""A training in progress: everything that has to be the same after a resume, and its way into a bundle and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.checkpoints import Manifest, Run, Stored, read_tensors
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.manifest import Data, Environment, Monitored, Phase, Progress, Resumption
from cutaway.checkpoints.optimizer_state import load_named_state, named_state
from cutaway.checkpoints.restoring import build_from
from cutaway.checkpoints.runs import bundle_name
from cutaway.checkpoints.saving import Saver
from cutaway.datasets import Dataset
from cutaway.errors import BundleError
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing
from cutaway.settings import TrainSettings
from cutaway.train.generators import generator_states, restore_generators, seed_generators
from cutaway.train.recipe import make_optimizer


@dataclass
class Session:
    """The state of a training. The loop changes it in place.

    Attributes:
        epoch: Whole epochs so far.
        batch: Batches of the epoch in progress.
        step: Steps in all.
        loss_sum: float64 scalar on the device, summed over the samples of the epoch in progress.
        correct: int64 scalar on the device, likewise.
        samples: Samples of the epoch in progress.
        sound: Whether the state is that of a whole number of steps, so that it may be saved.
        environment: Where this process runs.
        resumed: Each time that the run went on from a bundle.
    """

    settings: TrainSettings
    data: Data
    spec: NetworkSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    device: torch.device
    network: nn.Module
    optimizer: torch.optim.Optimizer
    loss_sum: Tensor
    correct: Tensor
    environment: Environment
    resumed: tuple[Resumption, ...] = ()
    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    sound: bool = True

    def end_epoch(self) -> None:
        """Counts the epoch in progress as a whole one, and begins the next."""
        self.epoch += 1
        self.batch = 0
        self.loss_sum.zero_()
        self.correct.zero_()
        self.samples = 0

    @property
    def progress(self) -> Progress:
        """Where the training stands."""
        return Progress(epoch=self.epoch, batch=self.batch, step=self.step)

    def save(self, run: Run, saver: Saver, *, metrics: dict[str, float] | None = None) -> list[str]:
        """Begins to write everything into a new bundle of the run, and then to remove those that are too many.

        Args:
            run: The run.
            saver: Does it in the background.
            metrics: Of the epoch that was just validated; None within an epoch.

        Returns:
            A list that sentences are added to in the background, where an old bundle cannot be removed.
        """
        settings = self.settings
        phase: Phase = "training" if metrics is None else "validated"
        optimizer_tensors, optimizer_groups = named_state(self.network, self.optimizer)
        manifest = Manifest(
            network=self.spec,
            classes=self.classes,
            preprocessing=self.preprocessing,
            progress=self.progress,
            phase=phase,
            metrics=metrics or {},
            monitored=monitored(settings),
            configuration=settings.model_dump(mode="json", exclude={"out"}),
            optimizer=optimizer_groups,
            data=self.data,
            environment=self.environment,
            resumed=self.resumed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={},
        )
        running = {"loss": self.loss_sum, "correct": self.correct, "samples": torch.tensor(self.samples)}
        tensors = {
            "model": self.network.state_dict(),
            "optimizer": optimizer_tensors,
            "training": {f"generator/{name}": state for name, state in generator_states(self.device).items()}
            | {f"running/{name}": value for name, value in running.items()},
        }
        failures: list[str] = []

        def prune() -> None:
            failures.extend(run.prune(settings.keep_last, settings.keep_best, settings.keep_every))

        saver.save(run.checkpoints / bundle_name(self.progress, phase), manifest, tensors, prune)
        return failures


def begin(
    settings: TrainSettings, dataset: Dataset, spec: NetworkSpec, preprocessing: Preprocessing, device: torch.device
) -> Session:
    """A training that has not made a step yet: generators seeded, the network at its initial weights."""
    seed_generators(settings.seed)
    return _session(settings, dataset, spec, preprocessing, device, build(spec))


def resume(
    settings: TrainSettings, dataset: Dataset, stored: Stored, device: torch.device, overridden: tuple[str, ...] = ()
) -> Session:
    """A training as it was when the bundle was saved.

    Args:
        settings: Of the training from here on.
        dataset: Likewise.
        stored: The bundle.
        device: Where to train.
        overridden: What a person changed against the bundle's settings, in words.

    Raises:
        BundleError: Part of the state is missing or does not fit.
    """
    manifest = stored.manifest
    network = build_from(stored)
    check_finite(network.state_dict(), stored.path)
    session = _session(settings, dataset, manifest.network, manifest.preprocessing, device, network)
    groups: list[dict[str, Any]] = manifest.optimizer
    optimizer_state = read_tensors(stored.path, manifest, "optimizer", verified=stored.verified)
    load_named_state(session.network, session.optimizer, optimizer_state, groups)
    training = read_tensors(stored.path, manifest, "training", verified=stored.verified)
    try:
        session.loss_sum.copy_(training["running/loss"])
        session.correct.copy_(training["running/correct"])
        session.samples = int(training["running/samples"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise BundleError(f"{stored.path} lacks the sums of the epoch in progress.") from error
    session.epoch = manifest.progress.epoch
    session.batch = manifest.progress.batch
    session.step = manifest.progress.step
    prefix = "generator/"
    states = {name.removeprefix(prefix): state for name, state in training.items() if name.startswith(prefix)}
    restore_generators(states, device)
    session.resumed = (*manifest.resumed, _resumption(session, manifest, overridden))
    return session


def monitored(settings: TrainSettings) -> Monitored:
    """The metric that the best bundle is chosen by, and whether more of it is better."""
    return Monitored(metric=settings.monitor, mode="min" if settings.monitor.endswith("loss") else "max")


def describe_data(dataset: Dataset) -> Data:
    """What a bundle keeps of its data set."""
    sizes = {split.name: len(split) for split in (dataset.train, dataset.valid, dataset.test)}
    return Data(name=dataset.name, fingerprint=dataset.fingerprint, source=dataset.source, sizes=sizes)


def _session(
    settings: TrainSettings,
    dataset: Dataset,
    spec: NetworkSpec,
    preprocessing: Preprocessing,
    device: torch.device,
    network: nn.Module,
) -> Session:
    # The memory format before the optimizer: its state takes the format of the parameters.
    network = network.to(device).train()
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Session(
        settings=settings,
        data=describe_data(dataset),
        spec=spec,
        classes=dataset.classes,
        preprocessing=preprocessing,
        device=device,
        network=network,
        optimizer=make_optimizer(network, settings),
        loss_sum=torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device),
        correct=torch.zeros((), dtype=torch.int64, device=device),
        environment=environment(device),
    )


def _resumption(session: Session, manifest: Manifest, overridden: tuple[str, ...]) -> Resumption:
    """What may be said of the run from here on, from what differs between then and now."""
    before, now = manifest.environment, session.environment
    moved = before.device != now.device
    because = [f"the device was {before.device}, now {now.device}"] if moved else []
    if before.threads != now.threads:
        because.append(f"torch had {before.threads} threads, now {now.threads}")
    if before.platform != now.platform:
        because.append(f"the platform was {before.platform}, now {now.platform}")
    for name in sorted(before.versions.keys() | now.versions.keys()):
        then, current = before.versions.get(name, "none"), now.versions.get(name, "none")
        # What comes with the device is told by the device.
        if then != current and not (moved and name in ("cuda", "cudnn")):
            because.append(f"{name} was {then}, now {current}")
    equality: Literal["bitwise", "rounding", "statistical", "overridden"] = "rounding" if because else "bitwise"
    if moved and _draws_on_device(session.network):
        equality = "statistical"
    if overridden:
        equality, because = "overridden", [*overridden, *because]
    return Resumption(step=manifest.progress.step, equality=equality, because=tuple(because))


def _draws_on_device(network: nn.Module) -> bool:
    """Whether a forward pass draws from the device's generator, which another device has not."""
    return any(getattr(module, "p", 0) for module in network.modules() if "Dropout" in type(module).__name__) or any(
        type(module).__name__ == "StochasticDepth" for module in network.modules()
    )
