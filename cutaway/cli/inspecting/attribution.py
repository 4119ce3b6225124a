"""`cutaway inspect attribution`: how much each pixel speaks for a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cutaway.cli.arguments import parse, require_seed
from cutaway.cli.inspecting.explained_pictures import ExplainedPictures, class_index, tell_alone
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import as_percent, one_line, say, say_json
from cutaway.errors import InspectionError, SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.inspect.attribution import Attribution
    from cutaway.preprocessing.spec import Pixels

_AT_A_TIME = 8
_WIDE_GAP = 0.05

Baseline = Literal["mean", "black", "white", "blur"]


@dataclass(frozen=True)
class AttributionOptions:
    """Write how much each pixel speaks for a class, a figure a picture."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    images: list[str]
    """Picture files, folders and patterns."""
    method: list[str] = field(default_factory=lambda: ["integrated-gradients"])
    """One or more of saliency, input-x-gradient, smooth-grad, integrated-gradients, deep-lift, guided-backprop,
    guided-grad-cam, occlusion, feature-ablation; or all, those that fit the network."""
    label: str | None = None
    """Class to explain; by default each picture's top class."""
    baseline: Baseline = "mean"
    """What "nothing" looks like, for the methods that compare with it: the training pictures' mean colour, black,
    white, or the picture blurred."""
    seed: int = 0
    """Of SmoothGrad's noise."""
    out: Path = Path("attribution")
    """Directory for the figures, which lie in it as the pictures lie in their folders."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_attribution(arguments: Sequence[str]) -> None:
    """Writes a figure for each picture that can be decoded, and then says which cannot."""
    options = parse(AttributionOptions, "inspect attribution", arguments)
    if not options.method:
        raise SettingsError("No method is named.", hint="--method all takes all that fit the network.")
    require_seed(options.seed)
    require_folder(options.out)
    from cutaway.devices import choose_device

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    pictures = ExplainedPictures(options.images, options.out, at_a_time=_AT_A_TIME)
    written = write_attributions(
        restored,
        pictures.chunks(),
        options.out,
        methods=options.method,
        label=options.label,
        baseline=options.baseline,
        seed=options.seed,
    )
    if options.json:
        say_json(pictures.entries([[entry] for entry in written]))
    else:
        for entry in written:
            say(_in_words(entry))
    tell_alone(written)
    pictures.refuse_broken()


def write_attributions(
    restored: Restored,
    chunks: Iterable[Mapping[str, Pixels]],
    out: Path,
    *,
    methods: Sequence[str] = ("integrated-gradients",),
    label: str | None = None,
    baseline: Baseline = "mean",
    seed: int = 0,
) -> list[dict[str, object]]:
    """Writes a figure for each picture; says for each which class it explains and how complete the methods are.

    Args:
        restored: Bundle with the network.
        chunks: Pictures by name, which may have folders before it, a few at a time, uint8 [H, W, 1 or 3] each.
        out: Directory, made where missing.
        methods: Names of attribution methods; `all` are those that fit the network.
        label: Class to explain; each picture's top class where None.
        baseline: What stands for nothing.
        seed: Of what is random.
    """
    import numpy as np
    import torch

    from cutaway.inspect.attribution import METHODS, attribute
    from cutaway.inspect.attribution.drawing import draw_attributions
    from cutaway.inspect.canvas import legible, png
    from cutaway.preprocessing.views import view

    wanted = -1 if label is None else class_index(restored.classes, label)
    every = "all" in methods
    chosen = list(METHODS) if every else list(dict.fromkeys(methods))
    out.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, object]] = []
    for chunk in chunks:
        if not chunk:
            continue
        seen = np.stack([restored.preprocessing.picture(picture) for picture in chunk.values()])
        inputs = torch.from_numpy(restored.preprocessing.normalise(seen))
        found: dict[str, Attribution] = {}
        for method in chosen:
            try:
                found[method] = attribute(
                    restored.network,
                    inputs,
                    method,
                    wanted,
                    baseline=baseline,
                    preprocessing=restored.preprocessing,
                    seed=seed,
                )
            except InspectionError:
                # Of all methods, some are not defined for every network.
                if not every or method not in ("guided-backprop", "guided-grad-cam", "deep-lift"):
                    raise
        for index, (name, picture) in enumerate(chunk.items()):
            first = next(iter(found.values()))
            number = int(first.class_index[index])
            explained = restored.classes[number]
            probability = float(first.probabilities[index])
            told = {method: _told(attribution, index) for method, attribution in found.items()}
            figure = draw_attributions(
                view(picture, restored.preprocessing),
                {method: attribution.heatmap[index] for method, attribution in found.items()},
                title=f"{legible(explained, f'class {number}')}: {as_percent(probability)}",
                notes={method: _note(entry) for method, entry in told.items()},
            )
            file = out / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(figure))
            entry = {"figure": str(file), "label": explained, "probability": probability, "methods": told}
            written.append(entry | ({} if first.alone is None else {"alone": first.alone}))
    return written


def _told(attribution: Attribution, index: int) -> dict[str, object]:
    """A method's words on one picture."""
    told: dict[str, object] = {"reduction": attribution.reduction}
    if attribution.baseline is not None:
        told["baseline"] = attribution.baseline
    if attribution.difference is not None and attribution.gap is not None:
        total, difference = float(attribution.attributions[index].sum()), float(attribution.difference[index])
        told |= {"sum": total, "difference": difference, "gap": total - difference}
    return told


def _note(told: Mapping[str, object]) -> str:
    if "gap" not in told:
        return ""
    return f"sums to {told['sum']:.3g} of {told['difference']:.3g}"


def _in_words(entry: Mapping[str, object]) -> str:
    share = as_percent(float(str(entry["probability"])))
    lines = [one_line(f"{entry['figure']}: {entry['label']} {share}")]
    methods = entry["methods"]
    assert isinstance(methods, dict)
    for method, told in methods.items():
        if "gap" not in told:
            continue
        total, difference, gap = (float(told[name]) for name in ("sum", "difference", "gap"))
        wide = abs(gap) > _WIDE_GAP * abs(difference)
        remark = "; too wide to read the parts as shares of it" if wide else ""
        lines.append(
            f"  {method}: the attributions sum to {total:.4g}, F(x) - F(baseline) is {difference:.4g}: "
            f"a gap of {gap:.1g} (baseline: {told['baseline']}){remark}"
        )
    return "\n".join(lines)
