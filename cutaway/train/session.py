"""A training in progress: everything that has to be the same after a resume, and its way into a bundle and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.checkpoints import Manifest, Run, Stored, read_tensors, write_bundle
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.manifest import Data, Monitored, Progress
from cutaway.checkpoints.optimizer_state import load_named_state, named_state
from cutaway.checkpoints.restoring import build_from
from cutaway.checkpoints.runs import bundle_name
from cutaway.datasets import Dataset
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
    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0

    def begin_epoch(self) -> None:
        """Sets the sums of the epoch in progress to zero."""
        self.loss_sum.zero_()
        self.correct.zero_()
        self.samples = 0

    def save(self, run: Run, *, phase: str, metrics: dict[str, float]) -> Stored:
        """Writes everything into a new bundle of the run."""
        progress = Progress(epoch=self.epoch, batch=self.batch, step=self.step)
        optimizer_tensors, optimizer_groups = named_state(self.network, self.optimizer)
        manifest = Manifest(
            network=self.spec,
            classes=self.classes,
            preprocessing=self.preprocessing,
            progress=progress,
            phase=phase,
            metrics=metrics,
            monitored=monitored(self.settings),
            configuration=self.settings.model_dump(mode="json", exclude={"out"}),
            optimizer=optimizer_groups,
            data=self.data,
            environment=environment(self.device),
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
        path = run.checkpoints / bundle_name(progress, phase)
        return Stored(path, write_bundle(path, manifest, tensors))


def begin(
    settings: TrainSettings, dataset: Dataset, spec: NetworkSpec, preprocessing: Preprocessing, device: torch.device
) -> Session:
    """A training that has not made a step yet: generators seeded, the network at its initial weights."""
    seed_generators(settings.seed)
    return _session(settings, dataset, spec, preprocessing, device, build(spec))


def resume(settings: TrainSettings, dataset: Dataset, stored: Stored, device: torch.device) -> Session:
    """A training as it was when the bundle was saved.

    Raises:
        BundleError: Part of the state is missing or does not fit.
    """
    manifest = stored.manifest
    network = build_from(stored)
    session = _session(settings, dataset, manifest.network, manifest.preprocessing, device, network)
    groups: list[dict[str, Any]] = manifest.optimizer
    load_named_state(session.network, session.optimizer, read_tensors(stored.path, manifest, "optimizer"), groups)
    training = read_tensors(stored.path, manifest, "training")
    session.loss_sum.copy_(training["running/loss"])
    session.correct.copy_(training["running/correct"])
    session.samples = int(training["running/samples"])
    session.epoch = manifest.progress.epoch
    session.batch = manifest.progress.batch
    session.step = manifest.progress.step
    prefix = "generator/"
    states = {name.removeprefix(prefix): state for name, state in training.items() if name.startswith(prefix)}
    restore_generators(states, device)
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
    )
