"""That a file of another network is noticed, and that a file is not blamed for what float32 leaves open."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import ExportError
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import verification
from cutaway.serve.export.conversion import convert
from cutaway.serve.export.encoded import WholeWay
from cutaway.serve.export.figures import Thresholds
from cutaway.serve.export.graph import Graph, Plain, output_names
from cutaway.serve.export.verification import NetworkAnswer, verify

SPEC = Preprocessing(size=(4, 4), color="grey", mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    model = convert(
        Graph(Plain(network), None),
        (torch.zeros(2, 1, 4, 4),),
        open_dimensions=({0: "N"},),
        input_names=("images",),
        output_names=output_names(None, ()),
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
        return NetworkAnswer(network(inputs).detach())

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
    reference = lambda inputs, class_index: NetworkAnswer(network(inputs).detach())  # noqa: E731
    figures = verify(path, reference, SPEC, pictures() * 4, input_form="float")
    assert (figures.pictures, figures.comparisons) == (15, 15)


def test_a_network_with_other_weights_is_noticed(exported):
    network, path = exported
    other = nn.Linear(16, 3)
    with torch.no_grad():
        other.weight.copy_(network[1].weight + 1e-2)
        other.bias.copy_(network[1].bias + torch.tensor([0.01, 0, 0]))

    def reference(inputs, class_index):
        return NetworkAnswer(other(inputs.flatten(1)).detach())

    with pytest.raises(ExportError, match="probabilities differ by up to"):
        verify(path, reference, SPEC, pictures(), input_form="float")
    verify(path, reference, SPEC, pictures(), input_form="float", thresholds=Thresholds(probability=0.02, logit=0.6))


def test_another_top_class_is_noticed_even_where_probabilities_may_differ(exported):
    network, path = exported

    def reference(inputs, class_index):
        return NetworkAnswer(network(inputs).detach().roll(1, dims=1))

    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(path, reference, SPEC, pictures(), input_form="float")


def shifted(network, by, dtype=torch.float32):
    """The network's own answer with an error of the first logit, as rounding would leave one."""
    network = copy.deepcopy(network).to(dtype)
    shift = torch.tensor([by, 0, 0], dtype=dtype)
    return lambda inputs, class_index: NetworkAnswer(network(inputs.to(dtype)).detach() + shift)


@pytest.mark.parametrize("exact_by", [0.0, 0.002])
def test_a_file_as_near_to_float64_as_pytorch_itself_passes(exported, exact_by):
    network, path = exported
    reference, exact = shifted(network, 0.001), shifted(network, exact_by, torch.float64)
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(path, reference, SPEC, pictures(), input_form="float")
    figures = verify(path, reference, SPEC, pictures(), exact=exact, input_form="float")
    assert 1e-4 < figures.probability_difference < 1e-3
    assert figures.probability_rounding == pytest.approx(figures.probability_difference, rel=0.01)


def test_a_file_far_from_both_is_refused(exported):
    network, path = exported
    reference, exact = shifted(network, 0.006), shifted(network, 0.0061, torch.float64)
    with pytest.raises(ExportError, match="exported file disagrees with PyTorch"):
        verify(path, reference, SPEC, pictures(), exact=exact, input_form="float")


def test_a_network_that_float32_leaves_open_is_refused_as_such(exported):
    network, path = exported
    with pytest.raises(ExportError, match="The network's probabilities are open in float32"):
        verify(
            path, shifted(network, 0.1), SPEC, pictures(), exact=shifted(network, 0, torch.float64), input_form="float"
        )


def test_float64_is_asked_only_where_there_is_doubt(exported):
    network, path = exported
    figures = verify(path, shifted(network, 0), SPEC, pictures(), exact=None, input_form="float")
    never = lambda inputs, class_index: pytest.fail("asked")  # noqa: E731
    assert verify(path, shifted(network, 0), SPEC, pictures(), exact=never, input_form="float") == figures
    assert figures.probability_rounding is None


def test_a_network_that_cannot_run_in_float64_is_judged_without(exported):
    network, path = exported
    exact = lambda inputs, class_index: NetworkAnswer(network(inputs.double()))  # noqa: E731
    with pytest.raises(ExportError, match="disagrees with PyTorch") as refused:
        verify(path, shifted(network, 0.001), SPEC, pictures(), exact=exact, input_form="float")
    assert "could not run the network in float64" in refused.value.hint


def test_a_network_that_cannot_run_in_float64_is_judged_without_also_on_encoded_files(exported, monkeypatch):
    network, path = exported
    ways = WholeWay(np.array([[0.9, 0.1, 0]]), np.array([[0.8, 0.2, 0]]), torch.zeros(1, 1, 4, 4))
    monkeypatch.setattr(verification, "go_the_whole_way", lambda *_, **__: ways)
    exact = lambda inputs, class_index: NetworkAnswer(network(inputs.double()))  # noqa: E731
    with pytest.raises(ExportError, match="From the encoded file") as refused:
        verify(path, shifted(network, 0), SPEC, pictures(), exact=exact, network=network, input_form="float")
    assert "could not run the network in float64" in refused.value.hint


def test_a_file_that_cannot_be_loaded_is_said_to_be_so(exported, tmp_path):
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(b"no ONNX")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load the file"):
        verify(torn, shifted(exported[0], 0), SPEC, pictures(), input_form="float")
