"""The pictures that an export is verified on, and the network's answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.pictures import picture_files
from cutaway.errors import DataError, ImageError, SettingsError

if TYPE_CHECKING:
    from cutaway.cli.export_sources import Source
    from cutaway.datasets import Dataset
    from cutaway.evaluation import Evaluation
    from cutaway.preprocessing.spec import Pixels
    from cutaway.progress import Track
    from cutaway.serve.export import Calibrated

SPLIT_NAMES = {"valid": "validation", "test": "test"}
_NAMED = "pictures named by --verify-data"


@dataclass(frozen=True)
class Shown:
    """What a network was shown.

    Attributes:
        images: Pictures to verify with, uint8 [H, W, C] each; none where generated ones are to be taken.
        images_are: What they are, for the file's metadata.
        evaluation: Its answers to the test split, or the validation split where there is none; None where nothing
            says what is right.
        calibrated: The temperature, where one was asked for.
        notes: What a person should know of it, a sentence each.
        dataset: What all of it is from; None where nothing says what is right.
    """

    images: list[Pixels]
    images_are: str
    evaluation: Evaluation | None = None
    calibrated: Calibrated | None = None
    notes: tuple[str, ...] = ()
    dataset: Dataset | None = None


def show(
    source: Source,
    data: str | None,
    *,
    calibrate: bool,
    examples: bool = False,
    verify_data: Sequence[str] = (),
    track: Track,
) -> Shown:
    """Finds pictures and shows them to the network.

    Args:
        source: With the network.
        data: Pictures that a person named: a data set, or for a network without a bundle also a folder of pictures.
        calibrate: Fit a temperature on the validation split.
        examples: Pictures with their true labels are going to be put beside the file.
        verify_data: Files, folders and patterns of pictures to verify with instead; they need no classes.
        track: Told of every step.

    Raises:
        CutawayError: There are no such pictures, or they are of other classes.
    """
    from cutaway.datasets import into_memory
    from cutaway.evaluation import evaluate
    from cutaway.serve.export import calibrate as fit
    from cutaway.serve.export.example_pictures import split_for_examples

    given = some_pictures(verify_data) if verify_data else None
    try:
        dataset = _dataset(source, data, calibrate or examples, track)
    except DataError as error:
        if given is None or calibrate or examples or data is not None:
            raise
        return Shown(given, _NAMED, notes=(f"The file holds no confusion matrix: {error.message}",))
    if dataset is None:
        if calibrate or examples:
            option = "--calibrate" if calibrate else "--examples"
            raise SettingsError(
                f"{option} needs pictures of known classes, and nothing names any for {source.name}.",
                hint="Name them: --data folder:PATH.",
            )
        if given is None and data is not None:
            return Shown(pictures_in(data), "pictures named by --data")
        return Shown(given or [], _NAMED)
    if calibrate and len(dataset.valid) == 0:
        raise SettingsError(
            "There is no validation split to calibrate on.", hint="Name other pictures with --data, or leave it out."
        )
    if examples:
        split_for_examples(dataset)
    prepared = into_memory(dataset, source.preprocessing, track=track)

    def answers(name: str) -> Evaluation:
        return evaluate(source.network, prepared.split(name), source.preprocessing, track=track, batch_size=256)

    tested = answers("test") if len(dataset.test) else None
    fitted = answers("valid") if calibrate or tested is None else None
    of_data = "" if data is None else " of what --data names"
    calibrated = fit(fitted, tested) if calibrate and fitted is not None else None
    name = "valid" if tested is None else "test"
    return Shown(
        images=_spread(dataset, name) if given is None else given,
        images_are=_NAMED if given is not None else f"pictures of the {SPLIT_NAMES[name]} split{of_data}",
        evaluation=tested or fitted,
        calibrated=calibrated,
        dataset=dataset,
    )


def some_pictures(names: Sequence[str]) -> list[Pixels]:
    """As many pictures as are verified with, from all over the files, folders and patterns that are named.

    Raises:
        ImageError: There are none, or one cannot be decoded.
    """
    from cutaway.images import decode

    files = picture_files(names)
    images = []
    for index in _some(len(files)):
        try:
            images.append(decode(files[index]))
        except ImageError as error:
            raise ImageError(f"{files[index]}: {error.message}", hint=error.hint) from error
    return images


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

    place = Path(name.removeprefix("folder:"))
    if place.exists():
        return some_pictures([str(place)])
    dataset = load(name)
    return _spread(dataset, "test" if len(dataset.test) else "valid")


def _dataset(source: Source, data: str | None, needed: bool, track: Track) -> Dataset | None:
    """The data set of known classes; None where there is none or nothing depends on its classes."""
    from cutaway.checkpoints.importing import is_imported
    from cutaway.cli.run_data import data_named, data_of

    if source.restored is not None:
        own = not is_imported(source.restored.manifest)
        return data_of(source.restored, data, track=track) if own or data is not None else None
    return data_named(data, source.classes, track=track) if needed and data is not None else None


def _spread(dataset: Dataset, name: str) -> list[Pixels]:
    """Some pictures from all over a split."""
    split = dataset.split(name)
    return [split.image(index) for index in _some(len(split))]


def _some(count: int) -> range:
    """Places of as many pictures as are verified with, spread over `count`."""
    from cutaway.serve.export.verification import NUM_PICTURES

    return range(0, count, max(1, count // NUM_PICTURES))[:NUM_PICTURES]
