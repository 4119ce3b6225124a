"""`cutaway demo`: the whole story on pictures that are here already."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from cutaway.cli.arguments import parse
from cutaway.cli.terminal import as_percent, bars, say
from cutaway.errors import CutawayError, SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.datasets import Dataset
    from cutaway.settings import TrainSettings

_COMPARED = 1000
_EXAMPLES = 20
_LAYERS = ["relu1", "relu2"]
_POLL_S = 0.02
_MARKER = ".cutaway-demo"


@dataclass(frozen=True)
class DemoOptions:
    """Train a small network on Fashion-MNIST, kill it, resume it, look inside, export it and serve it."""

    out: Path = Path("demo")
    """Directory for everything that is made; an earlier demo in it is replaced."""
    data: Literal["auto", "sample", "full"] = "auto"
    """The sample inside the package, or the full Fashion-MNIST; auto takes the full set where it is on this machine."""
    epochs: int | None = None
    """Passes over the training pictures; by default 3 over the full set, and 6 over the sample, which is smaller."""
    serve: bool = True
    """End with the page in the browser."""
    port: int = 7860
    """Of the page; a free one is taken where this one is not."""


def run_demo(arguments: Sequence[str]) -> None:
    """Runs every step and says in a line each what it made and where."""
    options = parse(DemoOptions, "demo", arguments)
    from cutaway.checkpoints import restore
    from cutaway.datasets import load
    from cutaway.datasets.builtin import fashion_mnist_is_here

    began = time.monotonic()
    full = fashion_mnist_is_here() if options.data == "auto" else options.data == "full"
    settings = _settings(options, full=full)
    _make_room(options.out)

    if full and options.data == "auto":
        say("The full Fashion-MNIST is on this machine, so the demo takes it; --data sample is quicker.")
    _title(1, f"Train {settings.network} on {settings.data}, and kill it in the middle of an epoch")
    _train_and_kill(settings)
    _title(2, "Resume it, and compare it with a run that was never killed")
    _resume_and_compare(settings, options.out / "uninterrupted")
    restored = restore(settings.out)
    dataset = load(settings.data, seed=settings.seed, track=bars)
    _title(3, "Look inside")
    _look_inside(restored, dataset, options.out)
    _title(4, "Export to ONNX, and compare it with PyTorch")
    model = _export(restored, dataset, settings.out)
    say(f"The demo took {time.monotonic() - began:.0f} s.")
    if options.serve:
        _title(5, "Classify in the browser")
        _serve(model, options.port)
    else:
        say(f"To classify in the browser: cutaway serve {model}")


def _settings(options: DemoOptions, *, full: bool) -> TrainSettings:
    from cutaway.settings import validated

    epochs = options.epochs
    if epochs is None:
        epochs = 3 if full else 6
    return validated(
        {
            "data": "fashion-mnist" if full else "fashion-mnist-sample",
            "network": "fashion-cnn-bn",
            "out": options.out / "run",
            "epochs": epochs,
            "batch_size": 256 if full else 64,
            "lr": 0.01,
            "save_every": 50 if full else 20,
            "seed": 7,
        }
    )


def _make_room(out: Path) -> None:
    """Removes what an earlier demo made, and nothing else."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / _MARKER).exists():
        raise SettingsError(f"{out} is there, and no demo made it.", hint="Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).write_text("cutaway demo makes this folder anew each time.\n", encoding="utf-8")
    for name in ("run", "uninterrupted", "pictures"):
        shutil.rmtree(out / name, ignore_errors=True)


def _title(number: int, text: str) -> None:
    say(f"\n{number}. {text}")


def _train_words(settings: TrainSettings) -> list[str]:
    """The words after `cutaway` that train with these settings, which are written into a file for it."""
    from cutaway.settings import to_yaml

    config = settings.out.parent / "run.yaml"
    config.write_text(to_yaml(settings), encoding="utf-8")
    return ["train", "--config", str(config)]


def _train_and_kill(settings: TrainSettings) -> None:
    """Trains in another process and ends it with SIGKILL once it has saved a bundle within an epoch."""
    from cutaway.checkpoints import Run

    # -P: a folder named cutaway where the person stands must not hide the package.
    words = [sys.executable, "-P", "-m", "cutaway", *_train_words(settings)]
    run = Run(settings.out)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        Console(stderr=True).status("training in another process"),
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said) as process,  # noqa: S603 - our own command
    ):
        while process.poll() is None and not _killable(run.bundle_paths()):
            time.sleep(_POLL_S)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            said.seek(0)
            why = said.read().strip() or "it had no more to do"
            raise CutawayError(f"The training ended before it could be killed: {why}", hint="Give more --epochs.")
    newest = run.bundle_paths()[-1]
    say(f"killed with SIGKILL (process {process.pid}); its newest bundle is {newest}")


def _killable(bundles: list[Path]) -> bool:
    """Whether the newest bundle was saved within an epoch."""
    return bool(bundles) and not bundles[-1].name.endswith("-validated")


def _resume_and_compare(settings: TrainSettings, twin: Path) -> None:
    from cutaway.cli.training import epoch_teller
    from cutaway.train import train

    resumed = train(settings, track=bars, on_epoch=epoch_teller(settings.epochs), on_note=say)
    say(f"resumed and finished: test accuracy {as_percent(resumed.test_accuracy)}, best bundle {resumed.best.path}")
    whole = train(settings.model_copy(update={"out": twin}), track=bars)
    hashes = [{n: entry.digest for n, entry in t.last.manifest.files.items()} for t in (resumed, whole)]
    if hashes[0] != hashes[1]:
        raise CutawayError("The resumed run differs from the uninterrupted one.", hint="Please report this.")
    say(
        "the resumed run equals the uninterrupted one byte for byte: weights, optimizer and generators; "
        f"weights have BLAKE3 {hashes[0]['model.safetensors'][:16]}…"
    )


def _look_inside(restored: Restored, dataset: Dataset, out: Path) -> None:
    from cutaway.cli.inspecting.cam_pictures import write_cams
    from cutaway.cli.inspecting.features import write_features
    from cutaway.cli.inspecting.histograms import write_histograms
    from cutaway.cli.inspecting.layers import show_layers
    from cutaway.cli.inspecting.report import write_html

    show_layers(restored)
    pictures = out / "pictures"
    samples = [dataset.test.image(index) for index in range(8)]
    names = [f"test-{index}" for index in range(8)]
    for line in (
        write_features(restored, samples[0], pictures / "features"),
        write_cams(restored, dict(zip(names, samples, strict=True)), pictures / "cam"),
        write_histograms(restored, pictures / "histograms"),
        write_html(restored, dataset, out / "run" / "report" / "index.html"),
    ):
        say(line)


def _export(restored: Restored, dataset: Dataset, run: Path) -> Path:
    import numpy as np

    from cutaway.cli.export_options import ExportOptions
    from cutaway.cli.export_reference import export_reference
    from cutaway.cli.export_words import tell
    from cutaway.evaluation import evaluate
    from cutaway.serve.classifier import Classifier

    exported = export_reference(ExportOptions(reference=str(run), examples=_EXAMPLES, layers=_LAYERS), track=bars)
    tell(exported)
    result = exported.result
    compared = dataset.test.take(range(min(_COMPARED, len(dataset.test))))
    answers = evaluate(restored.network, compared, restored.preprocessing)
    classifier = Classifier(result.path, provider="cpu")
    images = [compared.image(index) for index in range(len(compared))]
    chunks = bars([images[at : at + 50] for at in range(0, len(images), 50)], "classifying by ONNX Runtime")
    predictions = [prediction for chunk in chunks for prediction in classifier(chunk, explain=False)]
    ours = np.stack([prediction.probabilities for prediction in predictions])
    worst = float(np.abs(ours - answers.probabilities.numpy()).max())
    same = int((ours.argmax(1) == answers.predictions.numpy()).sum())
    say(
        f"{same} of {len(images)} test pictures get the same class from ONNX Runtime and PyTorch; "
        f"probabilities differ by {worst:.1e} at most"
    )
    return result.path


def _serve(model: Path, port: int) -> None:
    from cutaway.cli.serving import ServeOptions, serve_file
    from cutaway.serve.server import bind

    try:
        bind("127.0.0.1", port).close()
    except CutawayError:
        port = 0
    serve_file(ServeOptions(model=model, port=port))
