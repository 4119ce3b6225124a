from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import InspectionError, NetworkError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.inspect.canvas import legible, png
from cutaway.inspect.classwise import class_scores
from cutaway.inspect.embedding import Features, _chosen, embed, penultimate_features
from cutaway.inspect.embedding_figures import draw_embedding
from cutaway.networks import NetworkSpec, build
from cutaway.networks.heads import Parts
from cutaway.preprocessing import Preprocessing

SPEC = Preprocessing(size=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)


def pictures(count: int = 10) -> Split:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return Split("test", np.arange(count) % 2, images, prepared=True)


def blobs(count: int = 300, classes: int = 3, dimensions: int = 60) -> Features:
    """Features of classes that lie far apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = 6 * torch.randn(classes, dimensions, generator=generator)
    values = centres[labels] + torch.randn(count, dimensions, generator=generator)
    return Features(values, "fc", Evaluation(torch.nn.functional.one_hot(labels, classes).float(), labels))


def test_what_the_last_layer_takes_by_hand() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2))
    split = pictures()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    found = penultimate_features(network, split, SPEC, batch_size=4)
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2).flatten(1) / 255
    assert torch.allclose(found.values, network[1](pixels).relu(), atol=1e-6)
    assert found.layer == "4"
    assert torch.equal(found.answers.logits, evaluate(network, split, SPEC, batch_size=4).logits)
    assert network.training
    assert not network[4]._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_feature_maps_that_a_convolution_takes_are_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    split = pictures()
    found = penultimate_features(network, split, SPEC)
    with torch.no_grad():
        maps = network[0](torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255)
    assert torch.allclose(found.values, maps.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("name", ["lenet5", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"])
def test_networks_of_several_kinds(name: str) -> None:
    size = 28 if name == "lenet5" else 64
    network = build(NetworkSpec(name=name, num_classes=2, input_shape=(1 if name == "lenet5" else 3, size, size)))
    grey = Preprocessing(size=(size, size), color="grey", mean=(0.0,), std=(1.0,))
    spec = grey if name == "lenet5" else Preprocessing(size=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3)
    images = np.zeros((3, size, size, spec.channels), dtype=np.uint8)
    found = penultimate_features(network, Split("test", np.array([0, 1, 1]), images, prepared=True), spec)
    assert found.values.shape == (3, {"lenet5": 84, "torchvision:squeezenet1_1": 512}.get(name, 1024))


def test_a_layer_that_tells_no_hook_anything_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unheard(nn.Linear):
        def __call__(self, features: torch.Tensor) -> torch.Tensor:
            return self.forward(features)

    monkeypatch.setattr("cutaway.inspect.embedding.find_parts", lambda *_: Parts(("1",), (), ()))
    with pytest.raises(NetworkError, match="'1' tells no hook"):
        penultimate_features(nn.Sequential(nn.Flatten(), Unheard(48, 2)), pictures(), SPEC)


def test_pca_is_that_of_the_centred_features() -> None:
    features = blobs()
    found = embed(features, "pca")
    values = features.values.numpy().astype(np.float64)
    values -= values.mean(0)
    _, strengths, axes = np.linalg.svd(values, full_matrices=False)
    assert np.allclose(np.abs(found.points), np.abs(values @ axes[:2].T), atol=1e-8)
    assert found.explained == pytest.approx(strengths[:2] ** 2 / (strengths**2).sum())
    assert np.array_equal(found.indices, np.arange(300))


def test_t_sne_keeps_classes_apart_and_says_the_same_twice() -> None:
    features = blobs(120)
    found = embed(features, "tsne")
    labels = features.answers.labels.numpy()
    centres = np.stack([found.points[labels == label].mean(0) for label in range(3)])
    nearest = np.linalg.norm(found.points[:, None] - centres, axis=2).argmin(1)
    assert np.array_equal(nearest, labels)
    assert found.trustworthiness > 0.8
    assert np.array_equal(found.points, embed(features, "tsne").points)


def test_of_many_samples_each_class_keeps_its_share() -> None:
    # As files come: one class after the other.
    order = torch.arange(900).reshape(-1, 3).T.flatten()
    mixed = blobs(900)
    answers = Evaluation(mixed.answers.logits[order], mixed.answers.labels[order])
    features = Features(mixed.values[order], "fc", answers)
    found = embed(features, limit=90)
    assert np.bincount(features.answers.labels.numpy()[found.indices]).tolist() == [30, 30, 30]
    assert (np.diff(found.indices) > 0).all()
    assert found.num_samples == 900


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_few_samples_and_few_dimensions_have_a_map_too(method, dimensions: int) -> None:
    found = embed(blobs(5, 2, dimensions), method)
    assert found.points.shape == (5, 2)
    assert np.isfinite(found.points).all()


def test_no_map_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InspectionError, match="4 pictures says nothing"):
        embed(blobs(4))
    broken = blobs(9)
    broken.values[3, 2] = torch.nan
    with pytest.raises(InspectionError, match="not finite"):
        embed(broken)
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(InspectionError, match="pip install umap-learn"):
        embed(blobs(9), "umap")
    with pytest.raises(InspectionError, match="'test' is empty"):
        penultimate_features(nn.Flatten(), pictures().take([]), SPEC)


def test_the_figure_names_classes_and_crosses_mistakes_out() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
    features = blobs(60)
    features.answers.logits[0] = torch.tensor([0.0, 9, 0])
    figure = draw_embedding(embed(features), features, class_scores(features.answers, ["a_$", "猫", "c"]))
    crossed = [collection.get_offsets() for collection in figure.axes[0].collections[2::2]]
    assert [len(points) for points in crossed] == [1, 0, 0]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["20, 1 wrong: a_$", f"20, 0 wrong: {legible('猫', 'class 1')}", "20, 0 wrong: c"]
    png(figure)
    many = blobs(120, 40)
    figure = draw_embedding(embed(many), many, class_scores(many.answers, [str(number) for number in range(40)]))
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == [*(f"3, 0 wrong: {number}" for number in range(10)), "90 of others"]
    assert "in colour the 10 classes" in figure.axes[0].get_title(loc="left")


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = np.random.get_state()[1].copy()
    embed(blobs(30), "tsne")
    assert np.array_equal(np.random.get_state()[1], before)


def test_of_more_pictures_than_the_limit_each_class_keeps_its_share() -> None:
    labels = np.array([0, 1, 0, 2] * 25)
    kept = _chosen(labels, 50)
    assert np.bincount(labels[kept]).tolist() == [25, 13, 12]
    assert (np.diff(kept) > 0).all()
