"""A run's TensorBoard: scalars, what the network sees, its graph, histograms, settings, and the test by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.utils import make_grid

from cutaway.checkpoints import Run
from cutaway.graphs import add_graph
from cutaway.images import Pixels
from cutaway.metrics import Metrics
from cutaway.settings import TrainSettings
from cutaway.train.class_tables import class_table, confusion_table
from cutaway.train.journal import EpochMetrics

_SPEED = ("images_per_second", "wait_seconds", "gpu_memory_mb")


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
        if why := add_graph(self._writer, network, inputs):
            on_note(why)

    def picture(self, tag: str, pixels: Pixels) -> None:
        """Shows a picture, uint8 [H, W, 3], at the beginning of the run."""
        self._writer.add_image(tag, pixels, 0, dataformats="HWC")

    def step(self, step: int, *, loss: float, lr: float) -> None:
        """Notes one training step."""
        self._writer.add_scalar("step/loss", loss, step)
        self._writer.add_scalar("step/lr", lr, step)

    def epoch(self, metrics: EpochMetrics, network: nn.Module) -> None:
        """Notes a whole epoch: its metrics, the weights, and the gradients of its last step."""
        for name, value in metrics.scalars().items():
            part, _, what = name.partition("_")
            self._writer.add_scalar(f"{what}/{part}", value, metrics.step)
        for name in _SPEED:
            if (value := getattr(metrics, name)) is not None:
                self._writer.add_scalar(f"speed/{name}", value, metrics.step)
        for name, parameter in network.named_parameters():
            tag = name.replace(".", "/")
            if parameter.isfinite().all():
                self._writer.add_histogram(f"weights/{tag}", parameter.detach().cpu(), metrics.step)
            if parameter.grad is not None and parameter.grad.isfinite().all():
                self._writer.add_histogram(f"gradients/{tag}", parameter.grad.cpu(), metrics.step)
        self._writer.flush()

    def final(self, settings: TrainSettings, step: int, metrics: Mapping[str, float]) -> None:
        """Notes the hyper-parameters beside what they led to: the metrics of the best bundle, but for training's."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.model_dump(exclude={"out", "network_arguments"}).items()
        }
        values = {f"hparam/{name}": value for name, value in metrics.items() if name.startswith(("valid", "test"))}
        for summary in hparams(plain, values):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def test(self, measured: Metrics, classes: Sequence[str], step: int) -> None:
        """Shows what the best bundle came to over the test split, class by class and as a confusion matrix."""
        self._writer.add_text("test/classes", class_table(measured, classes), step)
        if confusion := confusion_table(measured, classes):
            self._writer.add_text("test/confusion", confusion, step)

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._writer.close()
