"""Our own routes: `POST /v1/classify` and `GET /v1/model`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args

from fastapi import Depends, FastAPI, Query, Request
from starlette.exceptions import HTTPException

from cutaway.errors import ImageError
from cutaway.images import Limits, Pixels, decode
from cutaway.serve.answers import ClassifyAnswer, ModelAnswer, describe_model, describe_prediction
from cutaway.serve.bodies import Sent, body_schema, pictures_of
from cutaway.serve.classifier import TOP_CLASS
from cutaway.serve.limits import ServingLimits
from cutaway.serve.models import Loaded, Models
from cutaway.serve.problems import described
from cutaway.serve.slots import Slots

__all__ = ["add_routes"]

Explain = Literal["none", "overlay", "numbers"]

_MOST_NAMED = 1000


def add_routes(app: FastAPI, models: Models, slots: Slots, limits: ServingLimits) -> None:
    """Adds `/v1/...` to the application; it describes the models as they are now, where they stay so."""
    last_class = max(len(each.now.classifier.classes) for each in models) - 1
    explains = models.may_change or any(each.now.classifier.metadata.explains for each in models)
    ways_to_explain = get_args(Explain) if explains else ("none",)
    how_to_explain: Explain = Query(
        "none",
        description="Heat-map: none, overlay (a PNG laid over the picture), or numbers",
        json_schema_extra={"enum": list(ways_to_explain)},
    )
    which_class: int = Query(
        TOP_CLASS,
        ge=TOP_CLASS,
        description="The class to explain; -1 is the top class",
        json_schema_extra=None if models.may_change else {"maximum": last_class},
    )
    which_model: str | None = Query(
        None,
        description=f"Name of the model; {models.names[0]} where none is named",
        json_schema_extra={"enum": models.names},
    )

    @app.get("/v1/model", tags=["model"], responses=described(404, 422), dependencies=[Depends(_known_alone)])
    async def describe(model: str | None = which_model) -> ModelAnswer:
        """Classes, preprocessing, metrics, provenance and verification of the network."""
        name, loaded = models.named(model)
        return describe_model(name, models.names, loaded)

    @app.post(
        "/v1/classify",
        tags=["model"],
        responses=described(400, 404, 408, 413, 415, 422, 500, 503, 504),
        dependencies=[Depends(_known_alone)],
        openapi_extra={"requestBody": body_schema(limits.max_images)},
    )
    async def classify(
        request: Request,
        top_k: int = Query(5, ge=1, le=_MOST_NAMED, description="How many classes to name; all, where there are fewer"),
        explain: Explain = how_to_explain,
        class_index: int = which_class,
        model: str | None = which_model,
    ) -> ClassifyAnswer:
        """Classifies one or many pictures: a form with field `images`, JSON with base64, or one picture as the body."""
        name, loaded = models.named(model)
        num_classes = len(loaded.classifier.classes)
        if explain != "none" and not loaded.classifier.metadata.explains:
            raise HTTPException(422, "This network was exported without heat-maps: ask with explain=none.")
        if class_index >= num_classes:
            raise HTTPException(422, f"class_index: there are classes 0 to {num_classes - 1}, and no {class_index}.")
        async with slots.admission(name) as admission:
            sent = await admission.receive(pictures_of(request, limits.max_images))
            return await admission.run(_classify, name, loaded, sent, limits.image, top_k, explain, class_index)


async def _known_alone(request: Request) -> None:
    """Refuses a parameter that there is not: who misspells `model` would be answered by another one."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
            raise HTTPException(422, f"There is no parameter {name[:100]!r}. {hint}")


def _classify(
    name: str,
    loaded: Loaded,
    sent: Sequence[Sent],
    limits: Limits,
    top_k: int,
    explain: Explain,
    class_index: int,
) -> ClassifyAnswer:
    classifier = loaded.classifier
    pictures = [_decoded(picture, number, limits, len(sent)) for number, picture in enumerate(sent, start=1)]
    predictions = classifier(pictures, top_k=top_k, explain=explain != "none", class_index=class_index)
    results = [
        describe_prediction(prediction, picture, each.name, explain, classifier.metadata.preprocessing)
        for prediction, picture, each in zip(predictions, pictures, sent, strict=True)
    ]
    milliseconds = sum(prediction.milliseconds for prediction in predictions)
    return ClassifyAnswer(
        results=results,
        model=name,
        version=loaded.version,
        bundle=classifier.metadata.bundle,
        milliseconds=milliseconds,
    )


def _decoded(picture: Sent, number: int, limits: Limits, count: int) -> Pixels:
    try:
        return decode(picture.data, limits=limits)
    except ImageError as error:
        if count == 1:
            raise
        name = picture.name[:100] if picture.name else f"Picture {number}"
        raise ImageError(f"{name}: {error.message}", hint=error.hint) from error
