"""What the HTTP API answers, as types: the OpenAPI description is made from them, so it is true."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pydantic import BaseModel

from cutaway import heatmaps, images
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.preprocessing.views import view
from cutaway.serve.metadata import Verification

if TYPE_CHECKING:  # a client of the API has these types, and needs no ONNX Runtime
    from cutaway.serve.classifier import Prediction, Score
    from cutaway.serve.models import Loaded


class ScoreAnswer(BaseModel):
    """One class and its probability."""

    index: int
    label: str
    probability: float


class HeatmapAnswer(BaseModel):
    """The heat-map over what the network saw, row by row, raw: 0 is no evidence, the scale is that of the logits.

    The model's `method_title` says how it is computed.
    """

    height: int
    width: int
    values: list[list[float]]


class PictureAnswer(BaseModel):
    """The answer for one picture.

    Attributes:
        name: File name as it was sent; null for a raw body.
        width: Of the decoded picture, in pixels.
        height: Of the decoded picture, in pixels.
        top: The most probable classes, best first.
        explained: The class that the heat-map explains; null without one.
        note: Says so where nothing in the picture speaks for that class, and the heat-map is empty.
        overlay: A PNG as a data URI: the part of the picture that the network saw, under the heat-map.
        heatmap: The heat-map as numbers.
    """

    name: str | None
    width: int
    height: int
    top: list[ScoreAnswer]
    explained: ScoreAnswer | None = None
    note: str | None = None
    overlay: str | None = None
    heatmap: HeatmapAnswer | None = None


class ClassifyAnswer(BaseModel):
    """One result per picture, in the order they were sent.

    Attributes:
        results: One per picture.
        model: Name of the one that answered.
        version: Of that model, which counts the loads of its file in this server.
        bundle: SHA-256 of the bundle that the network came from.
        milliseconds: For all the pictures together, from pixels to answers.
    """

    results: list[PictureAnswer]
    model: str
    version: str
    bundle: str
    milliseconds: float


class ModelAnswer(BaseModel):
    """What is known about the network being served.

    Attributes:
        name: Of the model.
        models: Names of all models of the server.
        version: Counts the loads of the model's file in this server.
    """

    name: str
    models: list[str]
    version: str
    network: str
    classes: list[str]
    explains: bool
    method: str | None
    method_title: str | None
    target_layer: str | None
    preprocessing: Preprocessing
    bundle: str
    metrics: dict[str, float]
    confusion_matrix: list[list[int]] | None
    verification: Verification
    versions: dict[str, str]
    providers: list[str]


class StatusAnswer(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


class Problem(BaseModel):
    """An error (RFC 9457): what is wrong and what to do, in plain words."""

    type: str
    title: str
    status: int
    detail: str


def describe_model(name: str, models: list[str], loaded: Loaded) -> ModelAnswer:
    """The answer of `GET /v1/model`.

    Args:
        name: Of the model.
        models: Names of all models of the server.
        loaded: What is in use of it.
    """
    metadata = loaded.classifier.metadata
    return ModelAnswer(
        name=name,
        models=models,
        version=loaded.version,
        network=metadata.network,
        classes=list(metadata.classes),
        explains=metadata.explains,
        method=metadata.method,
        method_title=metadata.title or None,
        target_layer=metadata.target_layer,
        preprocessing=metadata.preprocessing,
        bundle=metadata.bundle,
        metrics=metadata.metrics,
        confusion_matrix=metadata.confusion_matrix,
        verification=metadata.verification,
        versions=metadata.versions,
        providers=list(loaded.classifier.providers),
    )


def describe_prediction(
    prediction: Prediction, image: Pixels, name: str | None, explain: str, preprocessing: Preprocessing
) -> PictureAnswer:
    """The answer for one picture.

    Args:
        prediction: Of the classifier.
        image: uint8 [H, W, 3], as it was decoded.
        name: Of the file.
        explain: `none`, `overlay` or `numbers`.
        preprocessing: Of the network; it says which part of the picture the network saw.
    """
    answer = PictureAnswer(
        name=name,
        width=image.shape[1],
        height=image.shape[0],
        top=[_score(score) for score in prediction.top],
        explained=None if prediction.explained is None else _score(prediction.explained),
    )
    heatmap = prediction.heatmap
    if heatmap is None:
        return answer
    if prediction.heatmap_faint and prediction.explained is not None:
        answer.note = f"Nothing in this picture speaks for {prediction.explained.label}."
    if explain == "overlay":
        answer.overlay = data_uri(heatmaps.overlay(view(image, preprocessing), heatmap, faint=prediction.heatmap_faint))
    elif explain == "numbers":
        height, width = heatmap.shape
        answer.heatmap = HeatmapAnswer(height=height, width=width, values=heatmap.tolist())
    return answer


def data_uri(picture: Pixels) -> str:
    """A picture as text that a browser shows: uint8 [H, W, 1 or 3] -> a PNG in base64."""
    return "data:image/png;base64," + base64.b64encode(images.encode_png(picture)).decode()


def _score(score: Score) -> ScoreAnswer:
    return ScoreAnswer(index=score.index, label=score.label, probability=score.probability)
