"""The pictures that an export is verified on, and the network's answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.pictures import picture_files
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.cli.export_sources import Source
    from cutaway.datasets import Dataset
    from cutaway.evaluation import Evaluation
    from cutaway.preprocessing.spec import Pixels
    from cutaway.progress import Track
    from cutaway.serve.export import Calibrated


@dataclass(frozen=True)
class Shown:
    """What a network was shown.

    Attributes:
        images: Pictures to verify with, uint8 [H, W, C] each; none where generated ones are to be taken.
        evaluation: Its answers to the test split, or the validation split where there is none; None where nothing
            says what is right.
        calibrated: The temperature, where one was asked for.
    """

    images: list[Pixels]
    evaluation: Evaluation | None = None
    calibrated: Calibrated | None = None


def show(source: Source, data: str | None, *, calibrate: bool, track: Track) -> Shown:
    """Finds pictures and shows them to the network.

    Args:
        source: With the network.
        data: Pictures that a person named: a data set, or for a network without a bundle also a folder of pictures.
        calibrate: Fit a temperature on the validation split.
        track: Told of every step.

    Raises:
        CutawayError: There are no such pictures, or they are of other classes.
    """
    from cutaway.datasets import into_memory
    from cutaway.evaluation import evaluate
    from cutaway.serve.export import calibrate as fit

    dataset = _dataset(source, data, calibrate, track)
    if dataset is None:
        if calibrate:
            raise SettingsError(
                f"--calibrate needs pictures of known classes, and nothing names any for {source.name}.",
                hint="Name them: --data folder:PATH.",
            )
        return Shown([] if data is None else pictures_in(data))
    if calibrate and len(dataset.valid) == 0:
        raise SettingsError(
            "There is no validation split to calibrate on.", hint="Name other pictures with --data, or leave it out."
        )
    prepared = into_memory(dataset, source.preprocessing, track=track)

    def answers(name: str) -> Evaluation:
        return evaluate(source.network, prepared.split(name), source.preprocessing, track=track, batch_size=256)

    tested = answers("test") if len(dataset.test) else None
    fitted = answers("valid") if calibrate or tested is None else None
    images = _spread(dataset, "valid" if tested is None else "test")
    return Shown(images, tested or fitted, fit(fitted, tested) if calibrate and fitted is not None else None)


def own_pictures(source: Source, *, track: Track) -> list[Pixels]:
    """The pictures of a bundle's own data that its export is verified on; none where it has no such data."""
    dataset = _dataset(source, None, False, track)
    return [] if dataset is None else _spread(dataset, "test" if len(dataset.test) else "valid")


def labelled(source: Source, data: str | None, what: str, *, track: Track) -> Dataset:
    """Pictures of known classes: a bundle's own, or those that a person names.

    Raises:
        SettingsError: Nothing names any; `what` says what they are for.
        CutawayError: They cannot be loaded, or are of other classes.
    """
    from cutaway.cli.run_data import data_named, data_of

    if source.restored is not None:
        return data_of(source.restored, data, track=track)
    if data is None:
        raise SettingsError(
            f"{what} on pictures of known classes, and nothing names any for {source.name}.",
            hint="Name them: --data folder:PATH.",
        )
    return data_named(data, source.classes, track=track)


def pictures_in(name: str) -> list[Pixels]:
    """Some pictures of a folder, or of a data set of any classes."""
    from cutaway.datasets import load
    from cutaway.images import decode

    place = Path(name.removeprefix("folder:"))
    if place.exists():
        files = picture_files([str(place)])
        return [decode(files[index]) for index in _some(len(files))]
    dataset = load(name)
    return _spread(dataset, "test" if len(dataset.test) else "valid")


def _dataset(source: Source, data: str | None, calibrate: bool, track: Track) -> Dataset | None:
    """The data set of known classes; None where there is none or nothing depends on its classes."""
    from cutaway.checkpoints.importing import is_imported
    from cutaway.cli.run_data import data_named, data_of

    if source.restored is not None:
        own = not is_imported(source.restored.manifest)
        return data_of(source.restored, data, track=track) if own or data is not None else None
    return data_named(data, source.classes, track=track) if calibrate and data is not None else None


def _spread(dataset: Dataset, name: str) -> list[Pixels]:
    """Some pictures from all over a split."""
    split = dataset.split(name)
    return [split.image(index) for index in _some(len(split))]


def _some(count: int) -> range:
    """Places of as many pictures as are verified with, spread over `count`."""
    from cutaway.serve.export.verification import NUM_PICTURES

    return range(0, count, max(1, count // NUM_PICTURES))[:NUM_PICTURES]
