"""The sanity check: which maps change when the network forgets."""

import copy

import pytest
import torch
import torchvision
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from cutaway.inspect.attribution import saliency
from cutaway.inspect.faithfulness import Randomisation, randomisation_check, rank_correlation
from cutaway.inspect.faithfulness.randomisation import _similarity


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 144, 3),
    )


@pytest.fixture
def pictures():
    return torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(5))


def test_layers_are_randomised_from_the_top_down_and_stay_random(pictures):
    whole, seen = network(), []

    def explain(asked, given, classes):
        seen.append(copy.deepcopy(asked.state_dict()))
        return saliency(asked, given, classes).heatmap

    found = randomisation_check(whole, pictures, explain)
    assert found.layers == ("6", "3", "1", "0")
    assert len(seen) == 5
    for step, layer in enumerate(found.layers, start=1):
        changed = {key.partition(".")[0] for key, value in seen[step].items() if not torch.equal(value, seen[0][key])}
        # A fresh BatchNorm is what an untrained one already is.
        assert changed == set(found.layers[:step]) - {"1"}, layer
    assert found.rank_correlation.shape == found.similarity.shape == (4, 3)


def test_the_network_itself_is_never_touched(pictures):
    whole = network().train()
    before = copy.deepcopy(whole.state_dict())
    generator = torch.get_rng_state()
    randomisation_check(whole, pictures, lambda asked, given, classes: saliency(asked, given, classes).heatmap)
    assert all(torch.equal(value, before[key]) for key, value in whole.state_dict().items())
    assert all(module.training for module in whole.modules())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_pre_hooks for module in whole.modules())


def test_a_map_of_the_picture_alone_is_found_out(pictures):
    def edges(asked, given, classes):
        return given[:, 0].abs()

    alike = randomisation_check(network(), pictures, edges)
    assert torch.allclose(alike.rank_correlation, torch.ones(4, 3, dtype=torch.float64))
    assert torch.allclose(alike.similarity, torch.ones(4, 3, dtype=torch.float64))
    assert not alike.depends_on_weights
    assert alike.changes_at is None
    found = randomisation_check(
        network(), pictures, lambda asked, given, classes: saliency(asked, given, classes).heatmap
    )
    assert found.depends_on_weights
    assert found.changes_at in found.layers


def test_the_classes_stay_those_of_the_first_network(pictures):
    asked_for = []

    def explain(asked, given, classes):
        asked_for.append(classes.tolist())
        return saliency(asked, given, classes).heatmap

    randomisation_check(network(), pictures, explain)
    assert len({tuple(classes) for classes in asked_for}) == 1


def test_deep_networks_take_several_layers_a_step_and_attention_is_reached():
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=3)
    weights = []

    def explain(asked, given, classes):
        weights.append({key: value.clone() for key, value in asked.state_dict().items()})
        return given[:, 0]

    found = randomisation_check(vit, torch.randn(1, 3, 32, 32), explain, steps=4)
    assert len(found.layers) == 4
    assert found.layers[-1] == "VisionTransformer"
    for key in ("encoder.layers.encoder_layer_0.self_attention.out_proj.weight", "class_token", "heads.head.weight"):
        assert not torch.equal(weights[0][key], weights[-1][key]), key


def test_the_step_at_which_a_map_changes_is_named():
    ranks = torch.tensor([[0.9, 0.9], [0.6, 0.2], [0.7, 0.7]], dtype=torch.float64)
    found = Randomisation(("c", "b", "a"), ranks, ranks)
    assert found.changes_at == "b"
    assert not found.depends_on_weights


def test_rank_correlation_is_scipys_with_ties_too():
    torch.manual_seed(0)
    one = torch.randint(0, 5, (3, 6, 7)).float()
    other = torch.randint(0, 5, (3, 6, 7)).float()
    found = rank_correlation(one, other)
    for index in range(3):
        wanted = spearmanr(one[index].flatten(), other[index].flatten()).statistic
        assert found[index].item() == pytest.approx(wanted)
    assert rank_correlation(torch.zeros(1, 3, 3), one[:1, :3, :3]).isnan().all()


def test_similarity_is_scikit_images_but_for_the_border():
    torch.manual_seed(0)
    one, other = torch.rand(2, 90, 80), torch.rand(2, 90, 80)
    other = (one + other) / 2
    found = _similarity(one, other)
    for index in range(2):
        first, second = (maps[index].double().numpy() / maps[index].double().max().item() for maps in (one, other))
        wanted = structural_similarity(
            first, second, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found[index].item() == pytest.approx(wanted, abs=0.01)
    assert _similarity(torch.rand(1, 4, 4), torch.rand(1, 4, 4)).isnan().all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "hooked", [weight_norm, spectral_norm, lambda layer: prune.l1_unstructured(layer, "weight", 2)]
)
def test_weights_that_a_hook_computes_from_others_are_forgotten_with_these(hooked, pictures):
    whole, seen = network(), []
    hooked(whole[3])
    hooked(whole[6])

    def explain(asked, given, classes):
        seen.append({name: value.detach().clone() for name, value in asked.named_parameters()})
        return saliency(asked, given, classes).heatmap

    found = randomisation_check(whole, pictures, explain)
    stayed = {name for name, value in seen[-1].items() if torch.equal(value, seen[0][name])}
    assert stayed == {"1.weight", "1.bias"}  # a fresh BatchNorm is what an untrained one already is
    assert found.depends_on_weights
    assert all(torch.equal(value, seen[0][name]) for name, value in whole.named_parameters())


@pytest.mark.parametrize("maps", [torch.zeros(3, 12, 12), torch.full((3, 5, 5), 0.3)])
def test_maps_that_are_the_same_everywhere_give_no_verdict(maps, pictures):
    found = randomisation_check(network(), pictures, lambda asked, given, classes: maps)
    assert found.is_constant.all()
    assert found.depends_on_weights is None
    assert found.changes_at is None


def test_a_picture_without_a_map_does_not_speak_for_the_others():
    # Two pictures of which one map is constant, and one that stays as it was: their mean would be 0.3.
    ranks = torch.tensor([[0.0, 0.0, 0.9]], dtype=torch.float64)
    flat = torch.tensor([[True, True, False]])
    assert Randomisation(("a",), ranks, ranks).depends_on_weights is True
    found = Randomisation(("a",), ranks, ranks, flat)
    assert found.depends_on_weights is False
    assert found.changes_at is None
