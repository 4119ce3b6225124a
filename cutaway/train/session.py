"""A training in progress: everything that has to be the same after a resume, and its way into a bundle and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from cutaway.checkpoints import Manifest, Run, Stored, read_tensors
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.manifest import Data, Environment, Phase, Progress, Resumption
from cutaway.checkpoints.optimizer_state import load_named_state, named_state
from cutaway.checkpoints.restoring import AVERAGED, build_from
from cutaway.checkpoints.runs import bundle_name
from cutaway.checkpoints.saving import Saver
from cutaway.datasets import Dataset
from cutaway.errors import BundleError
from cutaway.networks import NetworkSpec, build
from cutaway.networks.heads import Parts, find_parts
from cutaway.networks.initialising import initialise
from cutaway.preprocessing import Preprocessing
from cutaway.settings import TrainSettings
from cutaway.train.fine_tuning import Start, load_start
from cutaway.train.generators import generator_states, restore_generators, seed_generators
from cutaway.train.monitoring import monitored
from cutaway.train.own import INEXACT, NOTHING_OWN, OwnObjects, own_loss
from cutaway.train.own import REMEMBERED_AS as OWN
from cutaway.train.recipe import Recipe, assemble, make_criterion, make_optimizer, recall_scaler, remember_scaler


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
        parts: The network's, where the settings treat them differently.
        own: What a person handed in beside the settings.
        remembered: What a resumed run has to know beside tensors, by the name of the part that remembers it; JSON.
    """

    settings: TrainSettings
    data: Data
    spec: NetworkSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    device: torch.device
    network: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    loss_sum: Tensor
    correct: Tensor
    environment: Environment
    parts: Parts | None = None
    own: OwnObjects = field(default_factory=OwnObjects)
    resumed: tuple[Resumption, ...] = ()
    remembered: dict[str, JsonValue] = field(default_factory=dict)
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
    def judged(self) -> nn.Module:
        """The network that is validated: the averaged one where there is one."""
        average = self.recipe.average
        return self.network if average is None else average.network

    @property
    def progress(self) -> Progress:
        """Where the training stands."""
        return Progress(epoch=self.epoch, batch=self.batch, step=self.step)

    def save(
        self,
        run: Run,
        saver: Saver,
        *,
        metrics: dict[str, float] | None = None,
        on_disk: Callable[[Path, int], None] = lambda path, step: None,
    ) -> list[str]:
        """Begins to write everything into a new bundle of the run, and then to remove those that are too many.

        Args:
            run: The run.
            saver: Does it in the background.
            metrics: Of the epoch that was just validated; None within an epoch.
            on_disk: Told of the bundle in the background, once it is committed.

        Returns:
            A list that sentences are added to in the background, where an old bundle cannot be removed.
        """
        settings = self.settings
        phase: Phase = "training" if metrics is None else "validated"
        remember_scaler(self.recipe.scaler, self.remembered)
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
            state=copy.deepcopy(self.remembered),
            data=self.data,
            environment=self.environment,
            resumed=self.resumed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={},
        )
        average = self.recipe.average
        averaged = {} if average is None else {f"{AVERAGED}{name}": own for name, own in average.tensors().items()}
        running = {"loss": self.loss_sum, "correct": self.correct, "samples": torch.tensor(self.samples)}
        tensors = {
            "model": self.network.state_dict(),
            "optimizer": optimizer_tensors,
            "training": {f"generator/{name}": state for name, state in generator_states(self.device).items()}
            | {f"running/{name}": value for name, value in running.items()}
            | averaged,
        }
        failures: list[str] = []

        path, step = run.checkpoints / bundle_name(self.progress, phase), self.step

        def after() -> None:
            on_disk(path, step)
            failures.extend(run.prune(settings.keep_last, settings.keep_best, settings.keep_every))

        # What only the next update changes; batch norm's statistics, for one, change with the next forward pass.
        steady = {("model", name) for name, _ in self.network.named_parameters()}
        steady |= {("optimizer", name) for name in optimizer_tensors} | {("training", name) for name in averaged}
        saver.save(path, manifest, tensors, after, steady=steady)
        return failures


def begin(
    settings: TrainSettings,
    dataset: Dataset,
    spec: NetworkSpec,
    preprocessing: Preprocessing,
    device: torch.device,
    start: Start | None = None,
    on_note: Callable[[str], None] = lambda _: None,
    own: OwnObjects = NOTHING_OWN,
) -> Session:
    """A training that has not made a step yet: generators seeded, the network at its initial weights.

    Args:
        settings: What to train.
        dataset: Likewise.
        spec: The network.
        preprocessing: Of its input.
        device: Where to train.
        start: Weights to put in place of the initial ones, as far as they go.
        on_note: Told which these are.
        own: What the person handed in beside the settings.
    """
    seed_generators(settings.seed)
    network = build(spec, own.code)
    initialise(network, settings.init, settings.init_scale)
    remembered: dict[str, JsonValue] = {}
    if start is not None:
        parts = find_parts(network, spec.input_shape, spec.num_classes)
        on_note(load_start(network, parts, start, dataset.classes, spec.name))
        remembered["began_with"] = start.record
    session = _session(settings, dataset, spec, preprocessing, device, network, own)
    session.remembered |= remembered
    return session


def resume(
    settings: TrainSettings,
    dataset: Dataset,
    stored: Stored,
    device: torch.device,
    overridden: tuple[str, ...] = (),
    own: OwnObjects = NOTHING_OWN,
) -> Session:
    """A training as it was when the bundle was saved.

    Args:
        settings: Of the training from here on.
        dataset: Likewise.
        stored: The bundle.
        device: Where to train.
        overridden: What a person changed against the bundle's settings, in words.
        own: What they handed in beside the settings.

    Raises:
        BundleError: Part of the state is missing or does not fit.
    """
    manifest = stored.manifest
    network = build_from(stored, own.code, averaged=False)
    check_finite(network.state_dict(), stored.path)
    session = _session(settings, dataset, manifest.network, manifest.preprocessing, device, network, own)
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
    # As many as it takes for what is learned already, which are others where the size of a batch was overridden.
    session.batch = -(-session.samples // (settings.batch_size * settings.accumulate))
    session.step = manifest.progress.step
    kept = {name: value for name, value in manifest.state.items() if name != OWN}
    session.remembered = copy.deepcopy(kept) | session.remembered
    recall_scaler(session.recipe.scaler, session.remembered)
    averaged = _under(AVERAGED, training)
    if session.recipe.average is not None and averaged:
        session.recipe.average.load(averaged)
    restore_generators(_under("generator/", training), device)
    session.resumed = (*manifest.resumed, _resumption(session, manifest, overridden))
    return session


def describe_data(dataset: Dataset) -> Data:
    """What a bundle keeps of its data set."""
    sizes = {split.name: len(split) for split in (dataset.train, dataset.valid, dataset.test)}
    return Data(name=dataset.name, fingerprint=dataset.fingerprint, source=dataset.source, sizes=sizes)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _session(
    settings: TrainSettings,
    dataset: Dataset,
    spec: NetworkSpec,
    preprocessing: Preprocessing,
    device: torch.device,
    network: nn.Module,
    own: OwnObjects,
) -> Session:
    # The memory format before the optimizer: its state takes the format of the parameters.
    network = network.to(device).train()
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    parts = find_parts(network, spec.input_shape, spec.num_classes) if _has_parts(settings) else None
    criterion: Callable[[Tensor, Tensor], Tensor]
    if own.loss is None:
        criterion = make_criterion(settings, dataset.counts()["train"], device)
    else:
        # Buffers, such as the weights of classes, to where the logits are.
        criterion = partial(own_loss, own.loss.to(device) if isinstance(own.loss, nn.Module) else own.loss)
    return Session(
        settings=settings,
        data=describe_data(dataset),
        spec=spec,
        classes=dataset.classes,
        preprocessing=preprocessing,
        device=device,
        network=network,
        optimizer=make_optimizer(network, settings, parts),
        recipe=assemble(network, settings, criterion),
        loss_sum=torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device),
        correct=torch.zeros((), dtype=torch.int64, device=device),
        environment=environment(device),
        parts=parts,
        own=own,
        remembered={OWN: own.record()} if own.record() else {},
    )


def _has_parts(settings: TrainSettings) -> bool:
    """Whether a part of the network learns otherwise than the rest."""
    scaled = settings.layer_decay != 1 or settings.backbone_lr_scale != 1
    return scaled or settings.freeze_backbone > 0 or settings.unfreeze == "gradual"


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
    if manifest.state.get(INEXACT):
        equality, because = "statistical", [str(manifest.state[INEXACT]), *because]
    if overridden:
        equality, because = "overridden", [*overridden, *because]
    return Resumption(step=manifest.progress.step, equality=equality, because=tuple(because))


def _draws_on_device(network: nn.Module) -> bool:
    """Whether a forward pass draws from the device's generator, which another device has not."""
    return any(getattr(module, "p", 0) for module in network.modules() if "Dropout" in type(module).__name__) or any(
        type(module).__name__ == "StochasticDepth" for module in network.modules()
    )
