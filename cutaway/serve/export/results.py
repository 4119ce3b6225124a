"""What an export is asked for and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cutaway.checkpoints import Restored
from cutaway.evaluation import Evaluation
from cutaway.serve.export.figures import Figures
from cutaway.serve.metadata import Metadata

InputForm = Literal["pixels", "float"]
Explain = bool | Literal["auto"]


@dataclass(frozen=True)
class ExportResult:
    """An exported and verified file.

    Attributes:
        path: The file.
        num_bytes: Its size, with the second file's where it needs one.
        metadata: What it says about itself.
        figures: Measured against PyTorch.
        why_not_explained: A sentence where a heat-map was left to `auto` and the network has none; otherwise empty.
    """

    path: Path
    num_bytes: int
    metadata: Metadata
    figures: Figures
    why_not_explained: str = ""

    @property
    def explained(self) -> bool:
        """Whether the file has a heat-map output."""
        return self.metadata.explains


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, for the file's metadata.

    Attributes:
        network: Its name.
        bundle: SHA-256 of its bundle's manifest; empty without one.
        weights: SHA-256 of the file that its weights are from, without a bundle; empty where they came in none.
        metrics: By name.
        confusion_matrix: Counts [K][K], rows are the truth.
    """

    network: str
    bundle: str = ""
    weights: str = ""
    metrics: Mapping[str, float] | None = None
    confusion_matrix: list[list[int]] | None = None

    @classmethod
    def of_bundle(cls, restored: Restored, evaluation: Evaluation | None = None) -> Origin:
        """A bundle.

        Args:
            restored: What `cutaway.checkpoints.restore` gave.
            evaluation: Over the test split, for the confusion matrix.
        """
        return cls(
            network=restored.spec.name,
            bundle=restored.manifest.digest(),
            metrics=restored.manifest.metrics,
            confusion_matrix=None if evaluation is None else evaluation.confusion.tolist(),
        )
