from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image
from skimage.data import astronaut
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cutaway.cli.inspecting import report as report_command
from cutaway.datasets import Split
from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.event_files import EventFiles
from cutaway.inspect.faithfulness import METRICS, MethodComparison, Randomisation, Verdict
from cutaway.inspect.layer_rendering import memory_sentence
from cutaway.inspect.layers import layer_table, training_memory
from cutaway.inspect.report import (
    SECTIONS,
    Other,
    Report,
    Section,
    channels_seen,
    render_report,
    report_on,
    subject,
    trust,
    values,
    write_events,
    write_report,
)
from cutaway.inspect.report.decisions import Explanation, SampleView, content
from cutaway.inspect.report.measuring_costs import to_measure, to_randomise
from cutaway.preprocessing.spec import Preprocessing

CLASSES = ("كلب", "猫", "<script>alert(1)</script>", "a\"b' onmouseover='x'")
PREPROCESSING = Preprocessing(size=(16, 16), color="grey", mean=(0.5,), std=(0.5,))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 4)
    )


def split(count: int = 12) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 20, 24, 1), dtype=np.uint8)
    return Split("test", np.arange(count) % 4, images)


def answers(net: nn.Module, samples: Split) -> SimpleNamespace:
    assert samples.images is not None
    pictures = np.stack([PREPROCESSING.picture(image) for image in samples.images])
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(PREPROCESSING.normalise(pictures)))
    return SimpleNamespace(logits=logits, labels=torch.from_numpy(samples.labels))


@cache
def gathered() -> Report:
    return gathered_of(network())


def gathered_of(net: nn.Module, sections: tuple[str, ...] | None = None) -> Report:
    samples = split()
    return report_on(
        net,
        PREPROCESSING,
        CLASSES,
        samples,
        answers(net, samples),
        title="<b>run</b> & 走",
        settings={"lr": 0.1, "note": "<i>x</i>", "list": ["ü", 1], "none": None},
        journal=[
            {"epoch": 1, "train_loss": 1.0, "valid_loss": 1.5},
            {"epoch": 2, "train_loss": 0.5, "valid_loss": 1.2},
        ],
        environment={"torch": "9.9"},
        sections=sections,
    )


class Reader(HTMLParser):
    """What a browser would make of the file."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_one_well_formed_file_that_fetches_nothing() -> None:
    html = render_report(gathered())
    page = Reader(html)
    assert page.open == []
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href") and value]
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for source in sources)
    assert "url(" not in html
    assert "http" not in html.replace("http-equiv", "")
    anchors = {attrs.get("id") for _, attrs in page.tags}
    assert all(source[1:] in anchors for source in sources if source.startswith("#"))


def test_names_in_any_script_are_text_and_never_markup() -> None:
    page = Reader(render_report(gathered()))
    assert all(name in page.text for name in CLASSES)
    assert "<b>run</b> & 走" in page.text
    assert "<i>x</i>" in page.text
    assert '["ü", 1]' in page.text
    assert not {"script", "i onmouseover"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_all_sections_are_there_and_empty_ones_are_left_out() -> None:
    def sections(data: Report) -> list[str | None]:
        return [attrs["id"] for tag, attrs in Reader(render_report(data)).tags if tag == "section"]

    assert sections(gathered()) == [
        key for key in SECTIONS if key not in ("slices", "augmented", "history", "comparison")
    ]
    assert sections(Report("nothing")) == []


def test_the_figures_in_the_report_are_those_of_the_network() -> None:
    data = gathered()
    assert data.headline["test accuracy"] == f"{data['scores']['scores'].accuracy:.1%}"
    assert data.headline["parameters"] == "836"
    assert data["samples"]["target_layer"] == "2"
    assert len(data["samples"]["views"]) == 12
    for view in data["samples"]["views"]:
        assert view.picture.shape == (16, 16, 1)
        assert [explanation.label == view.truth for explanation in view.explanations] == (
            [True] if view.is_right else [False, True]
        )
    text = Reader(render_report(data)).text
    assert "836" in text
    assert "Rows are the truth" in text


def test_a_map_without_evidence_says_so() -> None:
    views = [SampleView(np.zeros((8, 8, 3), np.uint8), None, (Explanation("cat", 0.5, None),))]
    page = Reader(render_report(Report("x", sections=(Section("samples", "Why", content(views, "conv")),))))
    assert "nothing here speaks for it" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 1


def test_a_network_without_maps_has_a_report_without_maps() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    data = gathered_of(net)
    assert data["samples"]["target_layer"] is None
    assert not {"features", "kernels"} & {section.key for section in data.sections}
    assert all(explanation.overlay is None for view in data["samples"]["views"] for explanation in view.explanations)
    html = render_report(data)
    assert "Grad-CAM" not in html
    assert "no layer that a class activation map could be read at" in html
    assert "nothing here speaks" not in html
    with pytest.raises(NetworkError, match="cannot be the target layer"):
        report_on(net, PREPROCESSING, CLASSES, split(), answers(net, split()), title="x", target_layer="1")


def test_many_classes_show_the_most_confused_ones() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 100))
    samples = split(200)
    data = report_on(
        net,
        PREPROCESSING,
        [f"class {i}" for i in range(100)],
        samples,
        answers(net, samples),
        title="many",
        sections=["scores"],
    )
    html = render_report(data)
    assert "Of 100 classes, the 24 with the most mistakes." in html
    assert len(re.findall(r'<tr><th scope="row"', html)) == 24


def test_the_network_is_left_as_it_was() -> None:
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    samples = split()
    given = answers(network(), samples)
    everything = report_on(net, PREPROCESSING, CLASSES, samples, given, title="x")
    assert len(everything.sections) > 8
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_it_is_written_whole_into_a_file_or_a_folder(tmp_path: Path) -> None:
    data = Report("x")
    assert write_report(tmp_path / "a.html", data) == tmp_path / "a.html"
    written = write_report(tmp_path / "new" / "report", data)
    assert written == tmp_path / "new" / "report" / "index.html"
    assert written.read_text(encoding="utf-8") == render_report(data)
    assert [path.name for path in written.parent.iterdir()] == ["index.html"]
    broken = Report("y", headline=3)  # type: ignore[arg-type]
    with pytest.raises(UndefinedError):
        write_report(tmp_path / "a.html", broken)
    assert "<h1" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "new"]


def test_sections_are_chosen_by_name() -> None:
    net, samples = network(), split()
    chosen = report_on(
        net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["weights", "layers"]
    )
    assert [section.key for section in chosen.sections] == ["layers", "weights"]
    with pytest.raises(InspectionError, match="no section 'wieghts'"):
        report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["wieghts"])


def test_gradients_and_activations_are_those_of_the_split_and_what_is_odd_is_said() -> None:
    net, samples = network(), split()
    with torch.no_grad():
        net[5].weight[0, 0] = float("nan")
    given = {"title": "x", "sections": ["weights"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(network(), samples), **given)
    groups = {group.kind: group for group in found["weights"]["groups"]}
    assert list(groups) == ["weights", "biases and norms", "gradients", "activations"]
    assert groups["weights"].findings[0].startswith("5.weight: 1 of ")
    net = network()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert "gradients" not in [group.kind for group in found["weights"]["groups"]]
    text = Reader(render_report(found)).text
    assert f"What each layer returns over {len(samples)} pictures" in " ".join(text.split())


def test_what_layers_return_is_told_with_the_gradients_there() -> None:
    net, samples = network(), split()
    given = {"title": "x", "sections": ["outputs"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    rows = {one.layer: (one.statistics, gradients) for one, _, gradients in found["outputs"]["rows"]}
    assert list(rows) == ["0", "1", "2", "3", "4", "5"]
    pictures = np.stack([PREPROCESSING.picture(image) for image in samples.images])
    with torch.no_grad():
        maps = network().eval()[:3](torch.from_numpy(PREPROCESSING.normalise(pictures)))
    told, gradients = rows["2"]
    assert told.zeros == pytest.approx(float((maps == 0).double().mean()))
    assert told.std == pytest.approx(float(maps.double().std(correction=0)), rel=1e-5)
    assert gradients.count == told.count
    shown = Reader(render_report(found)).text
    assert f"The values of each layer over {len(samples)} pictures" in " ".join(shown.split())
    assert "not finite" not in shown
    with torch.no_grad():
        net[3] = nn.AvgPool2d(2)
        net[1].running_var[0] = float("nan")
    broken = report_on(net, PREPROCESSING, CLASSES, samples, answers(network(), samples), **given)
    assert "The first values that are not finite are those of 1." in " ".join(
        Reader(render_report(broken)).text.split()
    )


def test_what_layers_return_is_measured_on_pictures_spread_over_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    monkeypatch.setattr(values, "MOST_MEASURED", 6)
    monkeypatch.setattr(subject, "BATCH", 4)
    given = {"title": "x", "sections": ["outputs"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    pictures = np.stack([PREPROCESSING.picture(image) for image in samples.images[::2]])
    images, labels = torch.from_numpy(PREPROCESSING.normalise(pictures)), torch.from_numpy(samples.labels[::2])
    logits = network().eval()(images)
    gradients = (logits.softmax(1) - nn.functional.one_hot(labels, 4)).detach()
    *_, (one, shape, at_output) = found["outputs"]["rows"]
    assert (one.layer, shape, one.statistics.count) == ("5", "4", 24)
    assert one.statistics.mean == pytest.approx(float(logits.detach().double().mean()), rel=1e-5)
    assert at_output.std == pytest.approx(float(gradients.std(correction=0)), rel=1e-5)
    told = one.statistics
    numbers = (told.mean, told.std, told.minimum, *map(told.quantile, (0.01, 0.5, 0.99)), told.maximum)
    html = render_report(found)
    row = Reader(html[html.index("<td>5</td>") : html.index("</tr>", html.index("<td>5</td>"))].replace("<td", " <td"))
    cells = [f"{number:.3g}" for number in numbers]
    assert row.text.split() == ["5", "Linear", "4", *cells, "0.0%", f"{at_output.std:.2g}"]
    assert "<details open>" in html
    # Two pictures and a half can be afforded.
    monkeypatch.setattr(values, "_BUDGET", 2.5 * layer_table(net, (1, 16, 16)).totals.macs)
    monkeypatch.setattr(values, "MOST_OPEN_ROWS", 5)
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert found["outputs"]["num_pictures"] == 2
    assert "<details>" in render_report(found)


def test_what_is_not_finite_has_a_column_of_its_own() -> None:
    net, samples = network(), split()
    scores = answers(net, samples)
    with torch.no_grad():
        net[5].bias[0] = float("nan")
    found = report_on(net, PREPROCESSING, CLASSES, samples, scores, title="x", sections=["outputs"])
    html = render_report(found)
    assert '<th class="num">not finite</th>' in html
    assert html.count('<td class="num">12</td>') == 1


def test_of_a_network_without_gradients_only_the_values_are_told() -> None:
    class WithoutAutograd(nn.Sequential):
        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    net, samples = WithoutAutograd(*network()), split()
    given = {"title": "x", "sections": ["outputs"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert [gradients for *_, gradients in found["outputs"]["rows"]] == [None] * 6
    assert "–" in Reader(render_report(found)).text


def test_parts_of_the_data_are_scored_by_the_columns_that_tell_something(tmp_path: Path) -> None:
    net, samples = network(), split(20)
    columns = {
        "folder": tuple("abcd"[label] for label in samples.labels),
        "site": ("same",) * 20,
        "name": tuple(f"{number}.png" for number in range(20)),
        "camera": ("走", "<b>") * 10,
    }
    samples = replace(samples, columns=columns)
    given = {"title": "x", "sections": ["slices"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    (camera,) = found["slices"]["slices"]
    right = answers(net, samples).logits.argmax(1).numpy() == samples.labels
    assert {one.value: (one.num_samples, one.num_right) for one in camera.slices} == {
        "走": (10, right[::2].sum()),
        "<b>": (10, right[1::2].sum()),
    }
    assert "走" in Reader(render_report(found)).text
    assert '<td dir="auto"><b>' not in render_report(found)
    with EventFiles(tmp_path, step=3) as events:
        write_events(events, found)
    (file,) = tmp_path.iterdir()
    assert b"inspect slices/camera" in file.read_bytes()
    asked = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), slice_by=["name"], **given)
    assert [one.column for one in asked["slices"]["slices"]] == ["name"]
    with pytest.raises(InspectionError, match=r"no column 'hour'.*camera"):
        report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), slice_by=["hour"], **given)
    with pytest.raises(InspectionError, match="the same 'site'"):
        report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), slice_by=["site"], **given)
    plain = report_on(net, PREPROCESSING, CLASSES, split(), answers(net, split()), **given)
    assert not plain.sections


def test_what_another_network_recognises_is_told_and_drawn(tmp_path: Path) -> None:
    net, samples = network(), split()
    own = answers(net, samples)
    right = own.logits.argmax(1) == own.labels
    # Right wherever this one is wrong, but for the last picture, and the other way round.
    tops = torch.where(right, (own.labels + 1) % 4, own.labels)
    tops[-1] = own.logits[-1].argmax()
    theirs = SimpleNamespace(logits=5 * torch.eye(4)[tops], labels=own.labels)
    given = {"title": "x", "sections": ["comparison"]}
    told = report_on(net, PREPROCESSING, CLASSES, samples, own, against=Other("<b>old</b>", theirs, learned=3), **given)
    found = told["comparison"]["comparison"]
    assert set(found.mended) == set(right[:-1].nonzero()[:, 0].tolist())
    assert set(found.broken) == set((~right[:-1]).nonzero()[:, 0].tolist())
    text = " ".join(Reader(render_report(told)).text.split())
    assert "by another network, <b>old</b>: it recognises" in text
    assert f"rightwrong{len(found.broken)} wrongright{len(found.mended)}" in text
    assert "3 of the pictures are among those that the other one learned" in text
    assert render_report(told).count("data:image/png") == 2
    with EventFiles(tmp_path, step=3) as events:
        write_events(events, told)
    (file,) = tmp_path.iterdir()
    assert all(f"inspect/{name} against another".encode() in file.read_bytes() for name in ("broken", "mended"))
    assert not report_on(net, PREPROCESSING, CLASSES, samples, own, **given).sections


def test_what_training_takes_stands_below_the_layers() -> None:
    net, samples = network(), split()
    memory = training_memory(net, (1, 16, 16), 8, optimizer=torch.optim.Adam)
    given = {"title": "x", "sections": ["layers"]}
    told = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), memory=memory, **given)
    assert memory_sentence(memory) in Reader(render_report(told)).text


def test_the_command_s_help_names_every_section() -> None:
    source = Path(report_command.__file__).read_text(encoding="utf-8")
    described = source[source.index("Only these") :].split('"""')[0].rpartition(":")[2]
    assert described.rstrip(".\n").split() == list(SECTIONS)


def test_its_figures_go_to_tensorboard(tmp_path: Path) -> None:
    with EventFiles(tmp_path, step=7) as events:
        write_events(events, gathered())
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    found.Reload()
    tags = found.Tags()
    assert {"inspect/confusion", "inspect/first kernels", "inspect feature maps/2"} <= set(tags["images"])
    assert {"inspect/faithfulness", "inspect/sanity", "inspect/calibration"} <= set(tags["images"])
    assert {"inspect/embedding", "inspect/channels", "inspect/confusions"} <= set(tags["images"])
    assert {"inspect explanations/00 by saliency", "inspect explanations/00 by HiResCAM"} <= set(tags["images"])
    overlays = [one for view in gathered()["samples"]["views"] for one in view.explanations if one.overlay is not None]
    assert sum(tag.startswith("inspect pictures/") and " for " in tag for tag in tags["images"]) == len(overlays) > 12
    assert sum(tag.startswith("inspect pictures/") and " for " not in tag for tag in tags["images"]) == 12
    assert [tag for tag in tags["histograms"] if tag.startswith("inspect weights")] == [
        "inspect weights/0/weight",
        "inspect weights/5/weight",
    ]
    assert {"inspect gradients/5/bias", "inspect biases and norms/5/bias", "inspect activations/0"} <= set(
        tags["histograms"]
    )
    assert found.Images("inspect/confusion")[0].step == 7


def test_a_network_that_costs_too_much_to_measure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    given = {"title": "x", "sections": ["trust"]}
    measured = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    tables = measured["trust"]["comparison"]["tables"]
    for rows in (table["rows"] for table in tables):
        assert [row["method"] for row in rows if not row["is_reference"]] == measured["trust"]["methods"]
        assert any(row["is_reference"] for row in rows)
    text = " ".join(Reader(render_report(measured)).text.split())
    assert [title for table in tables for title in table["metrics"]] == [metric.title for metric in METRICS.values()]
    assert all(said in text and (" is good" in said) for table in tables for said in table["said"])
    assert "Not measured here" not in text
    assert "nan" not in text
    for row in tables[1]["rows"]:  # of maps that don't look at the network, max-sensitivity says nothing
        mean, _, _, doubt = row["cells"][-1]
        assert (mean != mean) is row["is_reference"]
        assert doubt == ""
    assert measured["trust"]["comparison"]["verdict"] in text
    sanity = measured["trust"]["sanity"]
    assert len(sanity["sentences"]) == len(measured["trust"]["methods"])
    assert all(sentence in text for sentence in sanity["sentences"])
    assert f"by {measured['trust']['comparison']['cut_off']:.2f} standard errors" in text
    monkeypatch.setattr(trust, "_BUDGET", 1e6)
    left_out = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert left_out["trust"]["comparison"] is left_out["trust"]["sanity"] is None
    told = Reader(render_report(left_out)).text
    assert "cutaway inspect faithfulness does it" in told
    assert "cutaway inspect faithfulness --sanity does it" in told
    assert "--sanity" not in text


def test_dear_measures_drop_out_before_pictures_do(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    given = {"title": "x", "sections": ["trust"]}
    names = ("grad-cam", "hirescam", "layercam", *trust._ATTRIBUTIONS)
    kept = tuple(name for name in names if name != "occlusion")
    metrics = [metric for metric in METRICS if metric not in ("max-sensitivity", "infidelity")]
    macs = layer_table(net, PREPROCESSING.input_shape).totals.macs
    monkeypatch.setattr(trust, "MOST_MEASURED", 5)
    monkeypatch.setattr(trust, "_BUDGET", 1.01 * 3 * 5 * macs * to_measure(kept, metrics, (16, 16)))
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    measured = found["trust"]["comparison"]
    assert measured["num_pictures"] == 5
    assert [row["method"] for row in measured["tables"][1]["rows"] if not row["is_reference"]] == [
        title for title in found["trust"]["methods"] if title != "occlusion"
    ]
    told = " ".join(Reader(render_report(found)).text.split())
    assert "takes long with this network: max-sensitivity, infidelity, occlusion." in told
    assert f"cutaway inspect faithfulness --methods {' '.join(names)} measures all" in told


def test_occlusion_is_left_out_of_what_it_makes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    given = {"title": "x", "sections": ["trust"]}
    kept = ("grad-cam", "hirescam", "layercam", *(name for name in trust._ATTRIBUTIONS if name != "occlusion"))
    macs = layer_table(net, PREPROCESSING.input_shape).totals.macs
    monkeypatch.setattr(trust, "MOST_MEASURED", 4)
    monkeypatch.setattr(trust, "_BUDGET", 1.01 * 4 * macs * to_randomise(kept, (16, 16)))
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert "occlusion" in found["trust"]["methods"]
    assert len(found["trust"]["sanity"]["sentences"]) == len(kept)
    assert "Not checked here, since it takes long with this network: occlusion." in Reader(render_report(found)).text
    monkeypatch.setattr(trust, "_BUDGET", 1)
    monkeypatch.setattr(trust, "_BUDGET_OF_SHOWN", 1)
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
    assert "occlusion" not in found["trust"]["methods"]
    assert "cutaway inspect attribution --method occlusion draws it" in Reader(render_report(found)).text


class CutOff(nn.Module):
    """Lets no gradient through to the picture."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.detach()


@pytest.mark.parametrize(
    ("layer", "without", "why"),
    [
        (nn.GELU(), ["guided backprop"], "whose only rectifiers are ReLUs"),
        (CutOff(), [title for name, title in trust._ATTRIBUTIONS.items() if name != "occlusion"], "cuts off"),
    ],
    ids=["gelu", "cut off"],
)
def test_methods_that_a_network_refuses_are_left_out_and_the_others_stay(layer, without, why, monkeypatch) -> None:
    monkeypatch.setattr(trust, "_BUDGET", 1)
    net = network()
    if isinstance(layer, CutOff):
        net = nn.Sequential(layer, net)
    else:
        net[2] = layer
    found = gathered_of(net, ("trust",))["trust"]
    every = ["Grad-CAM", "HiResCAM", "LayerCAM", *trust._ATTRIBUTIONS.values()]
    assert found["methods"] == [title for title in every if title not in without]
    assert (found["completeness"] is None) is ("integrated gradients" in without)
    (sentence,) = found["left_out"]
    assert sentence.startswith(f"Without {', '.join(without)}: ")
    assert why in sentence
    assert why in Reader(render_report(gathered_of(net, ("trust",)))).text


def test_a_believed_method_that_shows_the_picture_alone_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(("guided backprop", "saliency"), None, ("deletion",), "Believe them.")
    monkeypatch.setattr(trust, "which_to_believe", lambda found: verdict)
    ranks = torch.tensor([[0.9] * 4, [0.8] * 4], dtype=torch.float64)
    unmoved = Randomisation(("5", "0"), ranks, ranks)
    moved = Randomisation(("5", "0"), ranks - 0.7, ranks)
    monkeypatch.setattr(trust, "MOST_MEASURED", 5)
    explained = iter([moved] * 5 + [unmoved] + [moved] * 3)  # the sixth is guided backprop
    monkeypatch.setattr(trust, "randomisation_check", lambda *_, **__: next(explained))
    found = gathered_of(network(), ("trust",))
    said = "guided backprop stays much the same when all that was learned is gone"
    assert [sentence.partition(":")[0] for sentence in found["trust"]["comparison"]["but"]] == [said]
    assert f"But {said}" in Reader(render_report(found)).text


def test_how_far_integrated_gradients_are_from_adding_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_BUDGET", 1)
    net, samples = network(), split()
    chosen = {"title": "x", "sections": ["trust"]}
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **chosen)
    told = found["trust"]["completeness"]
    assert 0 < abs(told["gap"]) < 0.05 * abs(told["difference"])
    assert f"farthest from it by {told['gap']:.4g}" in " ".join(Reader(render_report(found)).text.split())


def test_fewer_pictures_than_chance_can_be_told_of_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    given = {"title": "x", "sections": ["trust"]}
    monkeypatch.setattr(trust.costs, "to_randomise", lambda methods, size: float("inf"))
    for most, measured in ((4, False), (5, True)):
        monkeypatch.setattr(trust, "MOST_MEASURED", most)
        found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), **given)
        assert (found["trust"]["comparison"] is not None) is measured
        assert ("cannot be told of 4 pictures" in Reader(render_report(found)).text) is not measured
        assert "too large" not in Reader(render_report(found)).text


def test_a_network_that_mixes_pictures_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Pictures mix" not in render_report(gathered())
    monkeypatch.setattr(trust, "_BUDGET", 1)
    mixing = network()
    mixing[1] = nn.BatchNorm2d(4, track_running_stats=False)
    section = render_report(gathered_of(mixing, ("trust",)))
    assert "&#39;1&#39; normalises by the batch&#39;s own statistics" in section


def test_dead_channels_are_named() -> None:
    net, samples = network(), split()
    with torch.no_grad():
        net[1].weight[2] = 0
        net[1].bias[2] = -1
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["channels"])
    (odd,) = found["channels"]["odd"]
    assert (odd.layer, odd.num_channels, odd.dead) == ("2", 4, "1: 2")
    assert "dead" in Reader(render_report(found)).text


def test_channels_are_looked_at_over_as_many_pictures_as_can_be_afforded(monkeypatch: pytest.MonkeyPatch) -> None:
    net, samples = network(), split()
    monkeypatch.setattr(channels_seen, "BATCH", 1)
    for budget, number in ((5.5, 5), (1e9, 12), (0, 1)):
        monkeypatch.setattr(channels_seen, "_BUDGET", budget * layer_table(net, (1, 16, 16)).totals.macs)
        found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["channels"])
        assert found["channels"]["num_pictures"] == number


def test_saturated_channels_are_named_with_their_share() -> None:
    net, samples = network(), split()
    net[2] = nn.Sigmoid()
    with torch.no_grad():
        net[1].bias[3] = 90
    found = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["channels"])
    (odd,) = found["channels"]["odd"]
    assert odd.saturated == "1: 3 (100%)"
    assert "1: 3 (100%)" in Reader(render_report(found)).text


def test_a_report_of_photos_stays_small() -> None:
    photo = astronaut()[:224, :224]
    explanations = tuple(Explanation(name, 0.5, photo) for name in ("a", "b"))
    views = [SampleView(photo, "a", explanations)] * 19
    html = render_report(Report("x", sections=(Section("samples", "Why", content(views, "conv")),)))
    assert 57 * 5_000 < len(html) < 57 * 40_000
    first = html.index("data:image/jpeg;base64,") + len("data:image/jpeg;base64,")
    drawn = Image.open(io.BytesIO(base64.b64decode(html[first : html.index('"', first)])))
    assert np.abs(np.asarray(drawn).astype(int) - photo).mean() < 4


def test_a_diverged_network_has_a_report_without_answers() -> None:
    net, samples = network(), split()
    torch.nn.init.constant_(net[5].bias, float("nan"))
    told = report_on(net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x")
    keys = {section.key for section in told.sections}
    assert {"layers", "weights", "features"} <= keys
    assert not {"samples", "trust", "scores", "calibration", "embedding"} & keys
    assert "not finite" in told.headline["test accuracy"]
    assert "not finite" in Reader(render_report(told)).text


def test_a_collapsed_network_has_a_report_without_a_map() -> None:
    net, samples = network(), split()
    torch.nn.init.constant_(net[1].bias, -100.0)
    told = report_on(
        net, PREPROCESSING, CLASSES, samples, answers(net, samples), title="x", sections=["embedding", "scores"]
    )
    assert [section.key for section in told.sections] == ["scores"]


def test_names_that_are_twice_there_and_names_that_turn_the_text_are_told_apart() -> None:
    net, samples = network(), split()
    names = ("crane", "crane", "a\u202eb\x00", "d")
    told = report_on(net, PREPROCESSING, names, samples, answers(net, samples), title="x", sections=["scores"])
    html = render_report(told)
    assert "crane (2)" in html
    assert not {"\u202e", "\x00"} & set(html)
    assert all(found.examples for found in told["scores"]["confusions"])


def test_a_method_that_a_map_knowing_nothing_equals_is_told() -> None:
    values = torch.tensor([[[0.5, 0.5]], [[0.2, 0.3]], [[0.4, 0.5]], [[0.9, 0.7]]])
    found = MethodComparison(
        ("good", "bad", "centre", "random pixels"),
        ("insertion",),
        values,
        ("centre", "random pixels"),
        {},
        torch.zeros(2),
    )
    assert trust._doubt(found, "good", "insertion") == "no better than random pixels"
    lower = replace(found, metrics=("deletion",))
    assert trust._doubt(lower, "good", "deletion") == "no better than centre"
    assert trust._doubt(lower, "centre", "deletion") == ""
    assert trust._doubt(lower, "bad", "deletion") in ("", "not told from chance")
