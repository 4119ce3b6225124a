"""`cutaway inspect faithfulness`: which heat-map to believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from cutaway.cli.arguments import parse, require_seed
from cutaway.cli.inspecting.explained_pictures import tell_alone
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.pictures import decoded, picture_files, refuse_broken
from cutaway.cli.terminal import bars, one_line, say, say_json, say_table
from cutaway.errors import InspectionError, NetworkError, SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from cutaway.checkpoints import Restored
    from cutaway.inspect.faithfulness import MethodComparison, Randomisation

_USUAL = ("grad-cam", "saliency", "smooth-grad", "integrated-gradients", "occlusion")
_METRICS = ("deletion", "insertion", "road", "drop", "increase", "infidelity", "max-sensitivity")
_DECODED_AT_A_TIME = 8


@dataclass(frozen=True)
class FaithfulnessOptions:
    """Measure which heat-map to believe, beside maps that know nothing of the network."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    images: list[str] | None = None
    """Picture files, folders and patterns; by default test pictures of the data, or validation pictures where there are
    none."""
    data: str | None = None
    """Data to take test pictures from; by default the run's own."""
    pictures: int = 50
    """How many to measure on, drawn from the data."""
    methods: list[str] | None = None
    """Class activation maps (grad-cam, hirescam, ...) and attributions (saliency, integrated-gradients, ...); by
    default grad-cam, saliency, smooth-grad, integrated-gradients and occlusion."""
    metrics: list[str] = field(default_factory=lambda: list(_METRICS))
    """Of deletion, insertion, road, drop, increase, infidelity, max-sensitivity."""
    baseline: Literal["mean", "black", "white", "blur"] = "mean"
    """What "nothing" looks like where pixels are taken away."""
    sanity: bool = False
    """Check instead whether maps change when a copy of the network is randomised from the top down."""
    seed: int = 0
    """Of the pictures drawn and whatever else is random."""
    out: Path | None = None
    """Directory for the figures."""
    tensorboard: bool = False
    """Write the figure into the run's TensorBoard events too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_faithfulness(arguments: Sequence[str]) -> None:
    """Prints the table, and draws the curves where a directory is named."""
    options = parse(FaithfulnessOptions, "inspect faithfulness", arguments)
    if options.pictures < 1:
        raise SettingsError(f"--pictures must be at least 1, not {options.pictures}.")
    if options.images is not None and options.data:
        raise SettingsError("--images and --data both name pictures.", hint="Give one of them.")
    require_seed(options.seed)
    if options.out is not None:
        require_folder(options.out)
    from cutaway.devices import choose_device

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    if options.tensorboard and restored.path.parent.name != "checkpoints":
        raise InspectionError(f"{restored.path} lies in no run, so it has no TensorBoard events.", hint="Use --out.")
    # Where --images has no names behind it, the run's own pictures are not what was asked for.
    inputs, split = (
        (_pictures_of(restored, options.images), None)
        if options.images is not None
        else _drawn(restored, options.data, options.pictures, options.seed)
    )
    explainers = _explainers(restored, options, inputs)
    if options.sanity:
        _check_sanity(restored, inputs, explainers, options, split)
    else:
        _compare(restored, inputs, explainers, options, split)


def _compare(
    restored: Restored, inputs: Tensor, explainers: dict[str, Any], options: FaithfulnessOptions, split: str | None
) -> None:
    from cutaway.inspect.faithfulness import compare_methods

    found = compare_methods(
        restored.network,
        inputs,
        {name: partial(explain, restored.network) for name, explain in explainers.items()},
        metrics=options.metrics,
        baseline=options.baseline,
        preprocessing=restored.preprocessing,
        seed=options.seed,
        track=bars,
    )
    if options.json:
        say_json(_as_json(found) | {"split": split})
    else:
        _show(found, split)
    tell_alone([{"alone": found.alone}] if found.alone else [])
    if found.curves:
        from cutaway.inspect.faithfulness.drawing import draw_curves

        _keep("curves", partial(draw_curves, found), restored, options)


def _check_sanity(
    restored: Restored, inputs: Tensor, explainers: dict[str, Any], options: FaithfulnessOptions, split: str | None
) -> None:
    from cutaway.inspect.faithfulness import randomisation_check, what_it_shows

    found = {
        name: randomisation_check(restored.network, inputs, explain, seed=options.seed, track=bars)
        for name, explain in explainers.items()
    }
    if options.json:
        say_json({name: _check_as_json(one) for name, one in found.items()})
    else:
        first = next(iter(found.values()))
        say_table(
            ["randomised down to", *found],
            [
                [layer, *(f"{float(one.rank_correlation[step].mean()):.2f}" for one in found.values())]
                for step, layer in enumerate(first.layers)
            ],
            title=f"rank correlation with the map as trained, mean of {len(inputs)} pictures{_of(split)}",
        )
        say("a map is another one where its mean correlation falls below 0.5")
        for name, one in found.items():
            say(what_it_shows(name, one))
    from cutaway.inspect.faithfulness.drawing import draw_randomisation

    _keep("sanity", partial(draw_randomisation, found), restored, options)


def _explainers(restored: Restored, options: FaithfulnessOptions, inputs: Tensor) -> dict[str, Any]:
    from cutaway.inspect.faithfulness import explainer
    from cutaway.networks.target_layers import find_target_layer

    names = list(dict.fromkeys(options.methods or _USUAL))
    if not options.methods:
        try:
            find_target_layer(restored.network, restored.spec.input_shape)
        except NetworkError:
            # A network of linear layers alone has no layer to read a class activation map at.
            names.remove("grad-cam")
    return {
        name: explainer(name, baseline=options.baseline, preprocessing=restored.preprocessing, seed=options.seed)
        for name in names
    }


def _pictures_of(restored: Restored, names: Sequence[str]) -> Tensor:
    import numpy as np
    import torch

    files = picture_files(names)
    seen, broken = [], []
    for chunk in decoded(files, "reading", at_a_time=_DECODED_AT_A_TIME):
        seen += [restored.preprocessing.picture(found.pixels) for found in chunk if found.pixels is not None]
        broken += [found for found in chunk if found.error is not None]
    # A mean over fewer pictures than were named would be another number.
    refuse_broken(broken, len(files))
    return torch.from_numpy(restored.preprocessing.normalise(np.stack(seen)))


def _drawn(restored: Restored, data: str | None, count: int, seed: int) -> tuple[Tensor, str]:
    """Pictures drawn by the seed, and the split that they are of: the test, or else the validation split."""
    import torch

    from cutaway.batches import Feed
    from cutaway.cli.run_data import data_of, tell_validation

    dataset = data_of(restored, data, track=bars)
    split = dataset.test if len(dataset.test) else dataset.valid
    if not len(split):
        raise InspectionError("The data has no test or validation pictures.", hint="Name pictures with --images.")
    if split is dataset.valid:
        tell_validation()
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    feed = Feed(split, restored.preprocessing)
    return torch.cat([feed.inputs(batch) for batch in feed.batches(64, order)]), split.name


def _of(split: str | None) -> str:
    return "" if split is None else f" of the {split} split"


def _show(found: MethodComparison, split: str | None) -> None:
    from cutaway.inspect.faithfulness import METRICS, which_to_believe

    columns = [METRICS[name].title for name in found.metrics]
    rows = []
    for method, means, errors in zip(found.methods, found.mean.tolist(), found.standard_error.tolist(), strict=True):
        cells = []
        for metric, mean, error in zip(found.metrics, means, errors, strict=True):
            mark = "*" if found.best(metric) == method else " "
            weak = "~" if found.beats_random(method, metric) is False else " "
            cells.append("-" if mean != mean else f"{mean:.3f} ±{error:.3f} {mark}{weak}".replace(" ±nan", ""))
        rows.append([f"({method})" if method in found.references else method, *cells])
    pictures = f"{found.num_pictures} {'picture' if found.num_pictures == 1 else 'pictures'}{_of(split)}"
    say_table(["method", *columns], rows, title=f"mean over {pictures}, ± its standard error")
    for way, which in ((True, "higher is better"), (False, "lower is better")):
        names = [METRICS[name].title for name in found.metrics if METRICS[name].higher_is_better is way]
        if names:
            say(f"{which}: {', '.join(names)}")
    say("* the best mean.  ~ not told from a random map.  (in brackets) maps that know nothing of the network.")
    _show_leads(found)
    verdict = which_to_believe(found)
    say(verdict.sentence)
    if verdict.believed:
        say("Whether they depend on what the network learned, the same command tells with --sanity.")


def _show_leads(found: MethodComparison) -> None:
    """The table of paired differences, where there are enough pictures for one."""
    from cutaway.inspect.faithfulness import METRICS

    leads = {
        method: [found.lead_over_random(method, metric) for metric in found.metrics]
        for method in found.methods
        if method not in found.references
    }
    told = [at for at in range(len(found.metrics)) if any(row[at] is not None for row in leads.values())]
    if not told:
        return
    say("")
    say_table(
        ["method", *(METRICS[found.metrics[at]].title for at in told)],
        [
            [method, *("-" if (lead := row[at]) is None else f"{lead.low:+.3f} to {lead.high:+.3f}" for at in told)]
            for method, row in leads.items()
        ],
        title="how much better than the random map that comes nearest, picture by picture: intervals of 95 %",
    )
    errors = f"{found.cut_off:.2f} standard errors of the {found.num_pictures} differences"
    say(f"told where all of it is above 0: by {errors}")


def _as_json(found: MethodComparison) -> dict[str, object]:
    from cutaway.inspect.faithfulness import METRICS, which_to_believe

    def number(value: float) -> float | None:
        return value if value == value else None

    said = which_to_believe(found)
    return {
        "pictures": found.num_pictures,
        "verdict": {
            "believed": list(said.believed),
            "first": said.first,
            "judges": list(said.judges),
            "sentence": said.sentence,
        },
        "cut_off": number(found.cut_off),
        "metrics": {
            name: {"higher_is_better": METRICS[name].higher_is_better, "best": found.best(name)}
            for name in found.metrics
        },
        "methods": {
            method: {
                metric: {
                    "mean": number(float(found.mean[row, column])),
                    "standard_error": number(float(found.standard_error[row, column])),
                    "beats_random": found.beats_random(method, metric),
                    "lead_over_random": asdict(lead) if (lead := found.lead_over_random(method, metric)) else None,
                }
                for column, metric in enumerate(found.metrics)
            }
            for row, method in enumerate(found.methods)
        },
        "references": list(found.references),
        **({"alone": found.alone} if found.alone else {}),
    }


def _check_as_json(found: Randomisation) -> dict[str, object]:
    similarity = found.similarity.mean(1).tolist()
    return {
        "layers": list(found.layers),
        "rank_correlation": found.rank_correlation.mean(1).tolist(),
        "similarity": [None if value != value else value for value in similarity],
        "depends_on_weights": found.depends_on_weights,
        "changes_at": found.changes_at,
    }


def _keep(name: str, draw: Callable[[], Figure], restored: Restored, options: FaithfulnessOptions) -> None:
    """Puts a figure where it was asked for: into a directory, into the run's events, or nowhere."""
    told = []
    if options.out is not None:
        from cutaway.inspect.canvas import png

        options.out.mkdir(parents=True, exist_ok=True)
        file = options.out / f"{name}.png"
        file.write_bytes(png(draw()))
        told.append(f"figure in {file}")
    if options.tensorboard:
        from cutaway.checkpoints import Run
        from cutaway.inspect.event_files import EventFiles

        run = Run(restored.path.parent.parent)
        with EventFiles(run.tensorboard, step=restored.manifest.progress.step) as events:
            events.figure(f"inspect faithfulness/{name}", draw())
        told.append(f"figure in TensorBoard: tensorboard --logdir {run.path}")
    if not options.json:
        for line in told:
            say(one_line(line))
