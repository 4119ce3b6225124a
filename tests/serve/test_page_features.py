from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.heatmaps import color_table, signed_color_table
from cutaway.serve.classifier import Classifier
from cutaway.serve.metadata import Feature
from cutaway.serve.page import build
from cutaway.serve.page.feature_maps import Scale, maps_of


@pytest.fixture(scope="module")
def classifier(featured_model: Path) -> Classifier:
    return Classifier(featured_model, provider="cpu")


def shown(html: str) -> list[np.ndarray]:
    sources = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")) for source in sources]


def test_maps_are_shown_strongest_first_on_one_scale(classifier, pictures) -> None:
    (prediction,) = classifier([pictures("green")], features=True)

    html = maps_of(prediction.features["colors"], classifier.metadata.features[0])

    assert re.findall(r"Map of channel (\d)", html) == ["1", "0", "2"]
    first, second, third = shown(html)
    assert (first == color_table()[255]).all()
    assert (second == color_table()[0]).all()
    np.testing.assert_array_equal(second, third)
    assert "3 maps of 8 × 8" in html.replace("\N{NO-BREAK SPACE}", " ")
    assert "dark is 0, bright is 1." in html


def test_values_that_are_no_map_are_a_strip_with_zero_in_white(classifier, pictures) -> None:
    (prediction,) = classifier([pictures("green")], features=True)

    html = maps_of(prediction.features["mean"], classifier.metadata.features[1])

    (strip,) = shown(html)
    table = signed_color_table()
    np.testing.assert_array_equal(strip, table[[[0, 255, 0]]])
    assert "3 values (3)" in html
    assert "blue is -0.5, white is 0, red is 0.5." in html


def test_only_the_strongest_of_very_many_maps_are_shown() -> None:
    values = np.arange(100, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)

    html = maps_of(values, Feature(output="features.x", layer="x", layout="maps", shape=(100, 2, 2)))

    channels = re.findall(r"Map of channel (\d+)", html)
    assert channels == [str(channel) for channel in range(99, 35, -1)]
    assert "of which these 64 are the strongest" in html


def test_maps_of_nothing_but_zero_are_dark() -> None:
    zeros = np.zeros((2, 2), np.float32)
    assert (Scale.of(zeros).painted(zeros) == color_table()[0]).all()


def test_names_of_layers_are_escaped() -> None:
    feature = Feature(output="features.x", layer="<b>", layout="as it is", shape=(1,))
    assert "<b>" not in maps_of(np.ones(1, np.float32), feature)


@pytest.mark.parametrize("has_features", [True, False])
def test_tab_is_there_where_the_file_has_feature_maps(classifier, model_path, has_features: bool) -> None:
    page = build(classifier if has_features else Classifier(model_path, provider="cpu"))

    titles = [
        block["props"].get("label") for block in page.get_config_file()["components"] if block["type"] == "tabitem"
    ]
    assert ("Feature maps" in titles) is has_features
