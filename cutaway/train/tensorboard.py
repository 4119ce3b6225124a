"""A run's TensorBoard: scalars, what the network sees, its graph, histograms, and hyper-parameters."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.jit._trace import TracingCheckError
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.utils import make_grid

from cutaway.checkpoints import Run
from cutaway.settings import TrainSettings
from cutaway.train.journal import EpochMetrics


class Board:
    """Writes a run's event files. Drawing leaves the network and the generators as they were.

    Args:
        run: The run.
        step: The step that the run goes on from; TensorBoard forgets what was written after it.
    """

    def __init__(self, run: Run, *, step: int = 0) -> None:
        self._writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1 if step else 0)

    def begin(self, network: nn.Module, pictures: Tensor, inputs: Tensor, on_note: Callable[[str], None]) -> None:
        """Draws the first pictures as the network sees them, and the network's graph.

        Args:
            network: Any device and mode.
            pictures: uint8 [B, C, h, w], grey levels.
            inputs: float32 [B, C, h, w], the same normalised.
            on_note: Told where the graph cannot be drawn.
        """
        self._writer.add_image("pictures/train", make_grid(pictures[:32].cpu(), nrow=8), 0)
        # torch prints what it is about to raise.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                self._writer.add_graph(copy.deepcopy(network).cpu().eval(), inputs[:1].cpu())
            except (RuntimeError, TracingCheckError) as error:
                why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                on_note(f"TensorBoard shows no graph of this network, which cannot be traced: {why.strip()[:200]}")

    def step(self, step: int, *, loss: float, lr: float) -> None:
        """Notes one training step."""
        self._writer.add_scalar("step/loss", loss, step)
        self._writer.add_scalar("step/lr", lr, step)

    def epoch(self, metrics: EpochMetrics, network: nn.Module) -> None:
        """Notes a whole epoch: its metrics, the weights, and the gradients of its last step."""
        for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "images_per_second"):
            part, _, what = name.partition("_")
            tag = f"{what}/{part}" if part in ("train", "valid") else f"speed/{name}"
            if (value := getattr(metrics, name)) is not None:
                self._writer.add_scalar(tag, value, metrics.step)
        for name, parameter in network.named_parameters():
            tag = name.replace(".", "/")
            if parameter.isfinite().all():
                self._writer.add_histogram(f"weights/{tag}", parameter.detach().cpu(), metrics.step)
            if parameter.grad is not None and parameter.grad.isfinite().all():
                self._writer.add_histogram(f"gradients/{tag}", parameter.grad.cpu(), metrics.step)
        self._writer.flush()

    def final(self, settings: TrainSettings, metrics: EpochMetrics, test_accuracy: float) -> None:
        """Notes the hyper-parameters beside what they led to."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.model_dump(exclude={"out", "network_arguments"}).items()
        }
        values = {f"hparam/{name}": value for name, value in asdict(metrics).items() if name.startswith("valid")}
        values["hparam/test_accuracy"] = test_accuracy
        for summary in hparams(plain, values):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in values.items():
            self._writer.add_scalar(name, value, metrics.step)

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._writer.close()
