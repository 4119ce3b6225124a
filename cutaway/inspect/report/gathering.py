"""Gathering a report: from a bundle, or from any network with some pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from cutaway.checkpoints import Restored
from cutaway.datasets import Dataset, Split
from cutaway.errors import InspectionError
from cutaway.inspect.classwise import Answers, ClassScores
from cutaway.inspect.intervals import wilson
from cutaway.inspect.layer_rendering import byte_count, count
from cutaway.inspect.layers import TrainingMemory
from cutaway.inspect.report import answers as answering
from cutaway.inspect.report import channels_seen, decisions, structure, training, trust, values
from cutaway.inspect.report.document import Report, Section
from cutaway.inspect.report.subject import Other, Subject
from cutaway.inspect.run_histories import Moment
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent
from cutaway.settings.labels import distinct


class SectionKind(NamedTuple):
    """A section's heading, and where its content comes from; None leaves it out."""

    title: str
    gather: Callable[[Subject], Mapping[str, Any] | None]


SECTIONS: Mapping[str, SectionKind] = {
    "samples": SectionKind("Why it decided", decisions.gather),
    "trust": SectionKind("Which explanation to believe", trust.gather),
    "scores": SectionKind("Classes", answering.gather_scores),
    "calibration": SectionKind("How sure it is", answering.gather_calibration),
    "slices": SectionKind("Parts of the data", answering.gather_slices),
    "comparison": SectionKind("Against another network", answering.gather_comparison),
    "embedding": SectionKind("How it sees the classes", answering.gather_embedding),
    "curves": SectionKind("Training", training.gather_curves),
    "augmented": SectionKind("Augmentation", training.gather_augmented),
    "layers": SectionKind("Layers", structure.gather_layers),
    "kernels": SectionKind("First kernels", structure.gather_kernels),
    "features": SectionKind("Feature maps", structure.gather_features),
    "channels": SectionKind("Channels", channels_seen.gather),
    "outputs": SectionKind("What the layers return", values.gather_outputs),
    "weights": SectionKind("Weights, gradients, activations", values.gather_weights),
    "history": SectionKind("Weights and updates over the run", values.gather_history),
    "settings": SectionKind("Settings", training.gather_settings),
    "environment": SectionKind("Environment", training.gather_environment),
}

# A diverged network has none that mean anything.
NEED_ANSWERS = frozenset({"samples", "trust", "scores", "calibration", "slices", "comparison", "embedding"})


def report_of_bundle(
    restored: Restored,
    dataset: Dataset,
    evaluation: Answers,
    *,
    split: str = "test",
    journal: Sequence[Mapping[str, Any]] = (),
    augmented: Pixels | None = None,
    history: Sequence[Moment] = (),
    title: str | None = None,
    right: int = 10,
    wrong: int = 9,
    slice_by: Sequence[str] | None = None,
    against: Other | None = None,
    memory: TrainingMemory | None = None,
    target_layer: str | None = None,
    sections: Collection[str] | None = None,
    track: Track = silent,
) -> Report:
    """Gathers a bundle's report.

    Args:
        restored: The bundle.
        dataset: The data that it was trained on.
        evaluation: Its logits and labels over the split, in the split's order.
        split: The name of that split.
        journal: The run's journal; rows of other kinds than epochs are left out.
        augmented: The grid of augmented pictures that the run left behind.
        history: What `run_history` read of the run's bundles.
        title: The heading; the network and its data if None.
        right: How many recognised pictures to explain.
        wrong: How many of the most confident mistakes to explain.
        slice_by: Columns of the split to score the parts of; every column that makes a few if None.
        against: Another network over the same samples, to tell which answers flipped.
        memory: What training it takes.
        target_layer: Where to read class activation maps; the default of the network if None.
        sections: See `report_on`.
        track: Shows progress.
    """
    manifest = restored.manifest
    progress = manifest.progress
    return report_on(
        restored.network,
        restored.preprocessing,
        restored.classes,
        dataset.split(split),
        evaluation,
        title=title or f"{restored.spec.name} on {dataset.name}",
        subtitle=(
            f"{dataset.source.rstrip('.')}. Epoch {progress.epoch}, step {progress.step}, "
            f"saved {manifest.created[:10]}, bundle {manifest.digest()[:12]}."
        ),
        # Where the data lay is nobody else's business; its name says enough.
        settings=manifest.configuration | {"data": manifest.data.name},
        journal=[row for row in journal if row.get("kind", "epoch") == "epoch"],
        augmented=augmented,
        history=history,
        environment=_environment(restored),
        right=right,
        wrong=wrong,
        slice_by=slice_by,
        against=against,
        memory=memory,
        target_layer=target_layer,
        sections=sections,
        track=track,
    )


def report_on(
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    samples: Split,
    answers: Answers,
    *,
    title: str,
    subtitle: str = "",
    settings: Mapping[str, Any] | None = None,
    journal: Sequence[Mapping[str, Any]] = (),
    augmented: Pixels | None = None,
    history: Sequence[Moment] = (),
    environment: Mapping[str, str] | None = None,
    right: int = 10,
    wrong: int = 9,
    slice_by: Sequence[str] | None = None,
    against: Other | None = None,
    memory: TrainingMemory | None = None,
    target_layer: str | None = None,
    sections: Collection[str] | None = None,
    track: Track = silent,
) -> Report:
    """Gathers the report of any network; it is left as it was.

    A network without maps (an MLP) gets a report without maps.

    Args:
        network: Returns logits [N, K].
        preprocessing: From decoded pixels to its input.
        classes: K names.
        samples: The split that `answers` belong to.
        answers: Logits and labels in the split's order.
        title: The heading.
        subtitle: A line below it.
        settings: How it was trained.
        journal: One row per epoch.
        augmented: uint8 [H, W, 3], a grid of training pictures and what augmentation made of them.
        history: Its parameters from bundle to bundle.
        environment: Versions and machine.
        right: How many recognised pictures to explain.
        wrong: How many of the most confident mistakes to explain.
        slice_by: Columns of the split to score the parts of; every column that makes a few if None.
        against: Another network over the same samples, to tell which answers flipped.
        memory: What training it takes.
        target_layer: Where to read class activation maps; the default of the network if None.
        sections: Keys of `SECTIONS`; all of them if None. Those that there is nothing to show of are left out.
        track: Shows progress.

    Raises:
        InspectionError: There is no such section or column.
    """
    unknown = [key for key in sections or () if key not in SECTIONS]
    if unknown:
        raise InspectionError(f"A report has no section '{unknown[0]}'.", hint=f"Sections: {', '.join(SECTIONS)}.")
    subject = Subject(
        network=network,
        preprocessing=preprocessing,
        classes=distinct(classes),
        samples=samples,
        answers=answers,
        settings=settings or {},
        journal=journal,
        augmented=augmented,
        history=history,
        environment=environment or {},
        right=right,
        wrong=wrong,
        slice_by=slice_by,
        against=against,
        memory=memory,
        layer=target_layer,
        track=track,
    )
    chosen = [key for key in SECTIONS if sections is None or key in sections]
    if not subject.is_finite:
        chosen = [key for key in chosen if key not in NEED_ANSWERS]
    gathered = ((key, SECTIONS[key].title, SECTIONS[key].gather(subject)) for key in chosen)
    return Report(
        title=title,
        subtitle=subtitle,
        headline=_headline(subject),
        sections=tuple(Section(key, name, content) for key, name, content in gathered if content is not None),
    )


def _headline(subject: Subject) -> Mapping[str, str]:
    totals = subject.table.totals
    split = subject.samples.name
    return {
        f"{split} accuracy": f"{subject.scores.accuracy:.1%}" if subject.is_finite else "none: scores are not finite",
        f"{split} pictures": f"{len(subject.answers.labels):,}",
        **({"95 % interval": _interval(subject.scores)} if subject.is_finite else {}),
        "classes": f"{len(subject.classes):,}",
        "parameters": count(totals.parameters),
        "MACs per picture": count(totals.macs),
        "weights": byte_count(totals.stored_bytes),
    }


def _interval(scores: ClassScores) -> str:
    low, high = wilson(np.array([np.trace(scores.matrix)]), np.array([scores.num_samples]))
    return f"{low[0]:.1%} to {high[0]:.1%}"


def _environment(restored: Restored) -> dict[str, str]:
    environment = restored.manifest.environment
    found = {"platform": environment.platform, "device": environment.device, "threads": str(environment.threads)}
    if environment.commit:
        found["commit"] = environment.commit
    return found | dict(sorted(environment.versions.items()))
