"""Where a network puts pictures before it decides: the features that its last layer takes, as a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cutaway.datasets import Split
from cutaway.errors import InspectionError, NetworkError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.hooks import untouched
from cutaway.networks.heads import find_parts
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent

Method = Literal["pca", "tsne", "umap"]

MOST_SAMPLES = 3000
FEWEST_SAMPLES = 5
_BEFORE_TSNE = 50
_NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Features:
    """What a network's last layer takes.

    Attributes:
        values: float32 [N, D].
        layer: The layer that takes them.
        answers: What the network answered in the same pass.
    """

    values: Tensor
    layer: str
    answers: Evaluation


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features as points of a plane.

    Attributes:
        points: float64 [M, 2].
        indices: int64 [M], the samples that they are, ascending.
        num_samples: Out of how many.
        layer: The layer that takes the features.
        method: How they were brought into the plane.
        explained: Of PCA, the share of the features' variance that each axis keeps.
        trustworthiness: Whether neighbours in the plane are neighbours in the features (Venna and Kaski 2001): 1 where
            all of the five nearest are, about 0.5 where they are so by chance.
    """

    points: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]
    num_samples: int
    layer: str
    method: Method
    explained: tuple[float, float] | None
    trustworthiness: float


def penultimate_features(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
    track: Track = silent,
) -> Features:
    """Runs a network over a split and keeps what its last layer with weights takes; the network is left as it was.

    Of feature maps the mean over all positions is kept, of tokens the mean over all of them.

    Args:
        network: A classifier, on `device`.
        split: The samples.
        preprocessing: From decoded pixels to its input.
        device: Where it runs.
        batch_size: Samples at a time.
        workers: Processes that decode files.
        track: Shows progress.

    Raises:
        NetworkError: Its last layer cannot be told, or says nothing to a hook.
        InspectionError: That layer is called more than once for a batch.
    """
    num_classes = _num_classes(network, split, preprocessing, device)
    layer = find_parts(network, preprocessing.input_shape, num_classes).head[0]
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        kept.append(_flat(args[0]).float().cpu())

    with untouched(network):
        network.get_submodule(layer).register_forward_pre_hook(keep)
        answers = evaluate(
            network, split, preprocessing, device=device, batch_size=batch_size, workers=workers, track=track
        )
    if not kept:
        raise NetworkError(
            f"Layer {layer!r} tells no hook what it takes, as in a compiled network.", hint="Take the network itself."
        )
    values = torch.cat(kept)
    if len(values) != len(answers.labels):
        raise InspectionError(
            f"Layer {layer!r} is called {len(values) // len(answers.labels)} times for each picture, "
            "so the features that it takes are not one set.",
        )
    return Features(values, layer, answers)


def embed(features: Features, method: Method = "pca", *, limit: int = MOST_SAMPLES, seed: int = 0) -> Embedding:
    """Brings features into the plane.

    PCA is linear: distances mean something. t-SNE (of the first 50 principal components) and UMAP keep neighbours
    together; sizes of groups and distances between them mean nothing.

    Args:
        features: Of a split.
        method: `pca`, `tsne`, or `umap` where umap-learn is installed.
        limit: The most samples; of more, as many of each class as its share, evenly spread.
        seed: Of what the method draws.

    Raises:
        InspectionError: There are fewer than 5 samples, features are no numbers, or umap-learn is not installed.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE, trustworthiness

    indices = _chosen(features.answers.labels.numpy(), limit)
    values = features.values.numpy()[indices].astype(np.float64)
    if len(values) < FEWEST_SAMPLES:
        raise InspectionError(f"A map of {len(values)} pictures says nothing; it takes {FEWEST_SAMPLES} at least.")
    if not np.isfinite(values).all():
        raise InspectionError(
            f"Layer {features.layer!r} takes features that are not finite.", hint="Have the weights diverged?"
        )
    if not np.ptp(values, axis=0).any():
        raise InspectionError(
            f"Layer {features.layer!r} takes the same features of all {len(values)} pictures: there is no map of them.",
            hint="The network has collapsed: look at its channels and gradients.",
        )
    dimensions = min(values.shape)
    explained = None
    if method == "pca":
        if dimensions < 2:
            values = np.column_stack([values, np.zeros(len(values))])
        pca = PCA(2, random_state=seed)
        points = pca.fit_transform(values)
        shares = np.nan_to_num(pca.explained_variance_ratio_)
        explained = (float(shares[0]), float(shares[1]))
    elif method == "tsne":
        reduced = PCA(_BEFORE_TSNE, random_state=seed).fit_transform(values) if dimensions > _BEFORE_TSNE else values
        perplexity = min(30.0, (len(values) - 1) / 3)
        init = "pca" if reduced.shape[1] > 1 else "random"
        points = TSNE(2, perplexity=perplexity, init=init, random_state=seed, n_jobs=1).fit_transform(reduced)
    else:
        points = _by_umap(values, seed)
    near = min(_NEIGHBOURS, (len(values) - 1) // 2)
    return Embedding(
        points=np.asarray(points, dtype=np.float64),
        indices=indices,
        num_samples=len(features.values),
        layer=features.layer,
        method=method,
        explained=explained,
        trustworthiness=float(trustworthiness(values, points, n_neighbors=near)),
    )


def _by_umap(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    try:
        from umap import UMAP
    except ModuleNotFoundError as error:
        if error.name != "umap":
            raise
        raise InspectionError(
            "UMAP needs the package umap-learn, which is not installed.",
            hint="pip install umap-learn brings it; t-SNE and PCA need nothing more.",
        ) from error
    neighbours = min(15, len(values) - 1)
    points: npt.NDArray[np.float64] = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(values)
    return points


def _num_classes(network: nn.Module, split: Split, preprocessing: Preprocessing, device: torch.device | str) -> int:
    if len(split) == 0:
        raise InspectionError(f"The split {split.name!r} is empty.")
    first = evaluate(network, split.take([0]), preprocessing, device=device)
    return first.logits.shape[1]


def _flat(taken: Tensor) -> Tensor:
    """[N, …] -> [N, D]: positions of feature maps [N, C, h, w] and tokens [N, T, D] are averaged."""
    if taken.dim() == 4:
        return taken.mean((2, 3))
    return taken.mean(1) if taken.dim() == 3 else taken.flatten(1)


def _chosen(labels: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """All samples, or `limit` of them: evenly spread over the samples in the order of their classes."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    spread = np.arange(limit) * len(labels) // limit
    return np.sort(by_class[spread])
