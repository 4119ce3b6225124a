"""What counts as the same answer, with numbers worked out by hand, and that a file of another network is noticed."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import ExportError
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export.conversion import convert
from cutaway.serve.export.graph import PlainGraph
from cutaway.serve.export.verification import Thresholds, compare_heatmaps, verify

SPEC = Preprocessing(size=(4, 4), color="grey", mean=(0.0,), std=(1.0,))


def maps(*rows) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), 2, -1)


def test_maps_worked_out_by_hand():
    theirs = maps([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4])
    ours = maps([1, 2, 3, 4], [1, 2, 3, 2], [4, 3, 2, 1])
    correlations, differences = compare_heatmaps(ours, theirs)
    np.testing.assert_allclose(correlations, [1, 2 / np.sqrt(5 * 2), -1], atol=1e-12)
    np.testing.assert_allclose(differences, [0, 2 / 4, 3 / 4], atol=1e-12)


def test_a_map_of_another_scale_is_noticed_though_it_correlates():
    correlations, differences = compare_heatmaps(maps([2, 4, 6, 8]), maps([1, 2, 3, 4]))
    assert (correlations[0], differences[0]) == (1, 1)


def test_maps_that_are_nearly_zero_beside_the_others_are_the_same():
    correlations, differences = compare_heatmaps(
        maps([1, 0, 0, 0], [1e-9, 0, 0, 0], [0, 0, 0, 0]), maps([1, 0, 0, 0], [0, 0, 2e-9, 0], [0, 0, 0, 0])
    )
    assert np.isnan(correlations[1:]).all()
    assert differences.max() < 0.01


def test_a_map_where_pytorch_has_none_is_noticed():
    _, differences = compare_heatmaps(maps([1, 0, 0, 0], [1, 0, 0, 0]), maps([1, 0, 0, 0], [0, 0, 0, 0]))
    assert differences[1] > 1000


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    model = convert(
        PlainGraph(network, None),
        (torch.zeros(2, 1, 4, 4),),
        open_dimensions=({0: "N"},),
        input_names=("images",),
        output_names=PlainGraph.output_names,
    )
    path = tmp_path_factory.mktemp("verify") / "x.onnx"
    path.write_bytes(model.SerializeToString())
    return network, path


def pictures() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (side, 9, 1 + 2 * (side % 2)), dtype=np.uint8) for side in range(4, 10)]


def test_pictures_of_any_size_and_channels_are_compared_in_several_batches(exported):
    network, path = exported
    seen = []

    def reference(inputs, class_index):
        seen.append((tuple(inputs.shape), int(class_index[0])))
        return network(inputs).detach(), None

    figures = verify(path, reference, SPEC, pictures(), input_form="float")
    assert (figures.pictures, figures.comparisons) == (6, 15)
    assert figures.batch_sizes == (1, 3, 8, 3)
    assert 0 <= figures.probability_difference < 1e-6
    assert figures.top1_agreement == 1
    assert figures.heatmap_share is None
    assert {shape for shape, _ in seen} == {(1, 1, 4, 4)}
    assert {index for _, index in seen} >= {-1, 0, 1, 2} - {0}


def test_pictures_beyond_those_that_are_taken_are_not_counted(exported):
    network, path = exported
    reference = lambda inputs, class_index: (network(inputs).detach(), None)  # noqa: E731
    figures = verify(path, reference, SPEC, pictures() * 4, input_form="float")
    assert (figures.pictures, figures.comparisons) == (15, 15)


def test_a_network_with_other_weights_is_noticed(exported):
    network, path = exported
    other = nn.Linear(16, 3)
    with torch.no_grad():
        other.weight.copy_(network[1].weight + 1e-2)
        other.bias.copy_(network[1].bias + torch.tensor([0.01, 0, 0]))

    def reference(inputs, class_index):
        return other(inputs.flatten(1)).detach(), None

    with pytest.raises(ExportError, match="probabilities differ by up to"):
        verify(path, reference, SPEC, pictures(), input_form="float")
    verify(path, reference, SPEC, pictures(), input_form="float", thresholds=Thresholds(probability=0.02))


def test_another_top_class_is_noticed_even_where_probabilities_may_differ(exported):
    network, path = exported

    def reference(inputs, class_index):
        return network(inputs).detach().roll(1, dims=1), None

    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(path, reference, SPEC, pictures(), input_form="float")
