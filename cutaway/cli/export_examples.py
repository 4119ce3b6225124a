"""`cutaway export --examples`: real pictures with their true labels beside the file, for the page's gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.cli.terminal import say

if TYPE_CHECKING:
    from cutaway.cli.export_options import ExportOptions
    from cutaway.datasets import Dataset
    from cutaway.serve.examples import Example


def refuse_examples(options: ExportOptions, out: Path) -> None:
    """Says what is wrong with `--examples` before anything is exported; nothing without it.

    Raises:
        CutawayError: There is no file to put them beside, there are too many, or something is in their way.
    """
    if options.examples == 0:
        return
    from cutaway.serve.export.example_pictures import check_examples

    check_examples(out, options.examples)


def put_examples(options: ExportOptions, out: Path, dataset: Dataset | None) -> tuple[Example, ...]:
    """Writes them beside the file that was exported; none without `--examples`."""
    if options.examples == 0:
        return ()
    from cutaway.serve.export.example_pictures import write_examples

    assert dataset is not None, "nothing is exported without the pictures for it"
    return write_examples(out, dataset, options.examples)


def earlier_examples(options: ExportOptions, out: Path) -> tuple[str, ...]:
    """A note where pictures of an earlier export stay beside the file."""
    from cutaway.serve.examples import examples_folder

    folder = examples_folder(out)
    if options.examples or not folder.exists():
        return ()
    return (f"The examples in {folder} are of an earlier export: of another network they may be pictures it learned.",)


def tell_examples(examples: tuple[Example, ...]) -> None:
    """Says how many there are and where; nothing without any."""
    if examples:
        say(f"beside it are {len(examples)} example pictures with their true labels: {examples[0].path.parent}")


def examples_as_json(examples: tuple[Example, ...]) -> dict[str, Any]:
    """Where they lie and how many there are."""
    return {"examples": str(examples[0].path.parent) if examples else None, "num_examples": len(examples)}
