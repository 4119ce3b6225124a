"""The weights that torchvision publishes for its networks: which there are, what pictures they saw, and fetching them.

Only what a person asks for is fetched, never what a bundle or a settings file from a stranger names; and what comes is
read by torch's weights-only loading.
"""

from __future__ import annotations

import contextlib
import http.client
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import NetworkError
from cutaway.networks.torchvision_models import check_known, takes_one_size, usual_size
from cutaway.preprocessing import Preprocessing

# torchvision changes the pixels inside these when it loads their weights itself, which expect them between -1 and 1.
_SCALED_TO_ONE = ("googlenet", "inception_v3")
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Published:
    """Weights that torchvision publishes.

    Attributes:
        name: What torchvision calls them, such as `ResNet18_Weights.IMAGENET1K_V1`.
        file: Name of the file.
        classes: Labels in output order.
        preprocessing: Of the pictures that they were validated on.
    """

    name: str
    file: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def published(model: str, file: str | None = None) -> Published:
    """The weights that torchvision takes by default for a network, or those that come in a file of this name.

    Args:
        model: torchvision's name of the network.
        file: Name of a file; where torchvision has none of this name, its default is meant.

    Raises:
        NetworkError: There is no such network, or its pictures are prepared as `Preprocessing` cannot say.
    """
    weights = _weights(model, file)
    seen = weights.transforms()
    side = seen.crop_size[0]
    scaled = expects_other_pixels(model)
    try:
        if not seen.antialias:
            raise ValueError("its resize leaves edges rough")
        preprocessing = Preprocessing(
            size=(side, side),
            resize="shorter",
            resize_to=seen.resize_size[0],
            interpolation=seen.interpolation.value,
            mean=_HALF if scaled else tuple(seen.mean),
            std=_HALF if scaled else tuple(seen.std),
        )
    except ValueError as error:
        raise NetworkError(
            f"How pictures are prepared for torchvision's {weights} cannot be described here: resized to "
            f"{seen.resize_size} by {seen.interpolation.value}{'' if seen.antialias else ' without antialiasing'}, cut "
            f"to {seen.crop_size}.",
            hint="Say what comes nearest by --preprocessing FILE.",
        ) from error
    return Published(str(weights), _file(weights), tuple(weights.meta["categories"]), preprocessing)


def expects_other_pixels(model: str) -> bool:
    """Whether torchvision's weights expect pixels between -1 and 1, not ImageNet's mean and deviation.

    Args:
        model: torchvision's name of the network, with `torchvision:` before it or without.
    """
    return model.removeprefix("torchvision:") in _SCALED_TO_ONE


def fetch(model: str) -> dict[str, Tensor]:
    """The tensors that torchvision takes by default, from its cache or else from where it publishes them.

    Raises:
        NetworkError: They are not in the cache and cannot be fetched, or what is there is damaged.
    """
    weights, cached = _weights(model, None), cached_file(model)
    file, cache = cached.name, cached.parent
    given = f"put the file into {cache}, or give it by --weights FILE"
    try:
        # torchvision says what it fetches on stdout, which belongs to the command's own answer.
        with contextlib.redirect_stdout(sys.stderr):
            state = weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise NetworkError(
            f"torchvision's weights {file} for {model} cannot be fetched: {reason}.",
            hint=f"Where there is a network, fetch {weights.url}; then {given}.",
        ) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise NetworkError(
            f"torchvision's weights {cache / file} are damaged: {(str(error).splitlines() or [''])[0][:200]}",
            hint=f"Remove them and give the command again; or {given}.",
        ) from error
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def cached_file(model: str) -> Path:
    """Where `fetch` finds the file, or puts it."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _file(_weights(model, None))


def _weights(model: str, file: str | None) -> Any:
    from torchvision import models

    check_known(model)
    known = models.get_model_weights(model)
    for weights in known:
        if file is not None and _file(weights) == file:
            return weights
    # torchvision's default for the largest vision transformer is for larger pictures than the network is built for.
    fitting = [weights for weights in known if weights.transforms().crop_size[0] == usual_size(model)]
    return known.DEFAULT if known.DEFAULT in fitting or not takes_one_size(model) else fitting[0]


def _file(weights: Any) -> str:
    return str(weights.url).rpartition("/")[2]
