from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import NetworkError
from cutaway.inspect.report import Explanation, ReportData, SampleView, render_report, write_report
from cutaway.inspect.report_assembly import report_on
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


def gathered(net: nn.Module | None = None) -> ReportData:
    net = net or network()
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
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
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
    def sections(data: ReportData) -> list[str | None]:
        return [attrs["id"] for tag, attrs in Reader(render_report(data)).tags if tag == "section"]

    everything = ["samples", "scores", "curves", "layers", "kernels", "features", "weights", "settings", "environment"]
    assert sections(gathered()) == everything
    assert sections(ReportData("nothing")) == []


def test_the_figures_in_the_report_are_those_of_the_network() -> None:
    data = gathered()
    assert data.scores is not None
    assert data.layers is not None
    assert data.headline["test accuracy"] == f"{data.scores.accuracy:.1%}"
    assert data.headline["parameters"] == "836"
    assert data.target_layer == "2"
    assert len(data.samples) == 12
    for view in data.samples:
        assert view.picture.shape == (16, 16, 1)
        assert [explanation.label == view.truth for explanation in view.explanations] == (
            [True] if view.is_right else [False, True]
        )
    text = Reader(render_report(data)).text
    assert f"{data.layers.totals.parameters:,}" in text
    assert "Rows are the truth" in text


def test_a_map_without_evidence_says_so() -> None:
    views = (SampleView(np.zeros((8, 8, 3), np.uint8), None, (Explanation("cat", 0.5, None),)),)
    page = Reader(render_report(ReportData("x", samples=views, target_layer="conv")))
    assert "nothing here speaks for it" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 1


def test_a_network_without_maps_has_a_report_without_maps() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    data = gathered(net)
    assert (data.target_layer, data.features, data.kernels) == (None, (), None)
    assert all(explanation.overlay is None for view in data.samples for explanation in view.explanations)
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
        net, PREPROCESSING, [f"class {i}" for i in range(100)], samples, answers(net, samples), title="many"
    )
    html = render_report(data)
    assert "Of 100 classes, the 24 with the most mistakes." in html
    assert len(re.findall(r'<tr><th scope="row"', html)) == 24


def test_the_network_is_left_as_it_was() -> None:
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    samples = split()
    given = answers(network(), samples)
    report_on(net, PREPROCESSING, CLASSES, samples, given, title="x")
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_it_is_written_whole_into_a_file_or_a_folder(tmp_path: Path) -> None:
    data = ReportData("x")
    assert write_report(tmp_path / "a.html", data) == tmp_path / "a.html"
    written = write_report(tmp_path / "new" / "report", data)
    assert written == tmp_path / "new" / "report" / "index.html"
    assert written.read_text(encoding="utf-8") == render_report(data)
    assert [path.name for path in written.parent.iterdir()] == ["index.html"]
    broken = ReportData("y", headline=3)  # type: ignore[arg-type]
    with pytest.raises(UndefinedError):
        write_report(tmp_path / "a.html", broken)
    assert "<h1" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "new"]
