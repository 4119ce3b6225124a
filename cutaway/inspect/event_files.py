"""Figures among a run's TensorBoard events, at the step of the bundle that they show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from cutaway.graphs import add_graph
from cutaway.inspect.canvas import pixels
from cutaway.inspect.histograms import Histogram
from cutaway.preprocessing.spec import Pixels


class EventFiles:
    """Writes what an inspection found beside what training wrote, into a file of its own.

    Args:
        directory: Of event files, such as a run's `tensorboard`.
        step: Of the bundle.

    Example:
        >>> with EventFiles(run.tensorboard, step=938) as events:
        ...     events.figure("inspect/confusion", draw_confusion(scores))
    """

    def __init__(self, directory: Path, *, step: int) -> None:
        self._step = step
        self._writer = SummaryWriter(str(directory), filename_suffix=".inspect")

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def picture(self, tag: str, picture: Pixels) -> None:
        """A picture, uint8 [H, W, 1 or 3]."""
        self._writer.add_image(tag, picture, self._step, dataformats="HWC")

    def figure(self, tag: str, figure: Figure) -> None:
        """A figure, as it would be in a file."""
        self.picture(tag, pixels(figure))

    def histograms(self, tag: str, histograms: Iterable[Histogram], *, step: int | None = None) -> None:
        """Distributions, each under `tag` and its name; `step` where they are of another bundle than the rest."""
        for histogram in histograms:
            number = int(histogram.counts.sum())
            if number == 0:
                continue
            square = histogram.std**2 + histogram.mean**2
            self._writer.add_histogram_raw(
                f"{tag}/{histogram.name.replace('.', '/')}",
                min=float(histogram.edges[0]),
                max=float(histogram.edges[-1]),
                num=number,
                sum=histogram.mean * number,
                sum_squares=square * number,
                bucket_limits=histogram.edges[1:].tolist(),
                bucket_counts=histogram.counts.tolist(),
                global_step=self._step if step is None else step,
            )

    def graph(self, network: nn.Module, inputs: Tensor) -> str:
        """The network's graph, traced on inputs [N, C, h, w]; a sentence where that cannot be done."""
        return add_graph(self._writer, network, inputs)
