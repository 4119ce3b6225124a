"""From a network to a file on disk, judged by ONNX Runtime, captum and answers worked out by hand."""

import importlib.metadata
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from captum.attr import LayerGradCam
from onnxscript import rewriter
from PIL import Image
from skimage import data
from torch import nn

from cutaway.errors import ExportError, NetworkError
from cutaway.evaluation import evaluate
from cutaway.images import decode
from cutaway.inspect import grad_cam
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import Thresholds, compare_heatmaps, export, export_module, pipeline, verify_file
from cutaway.serve.export.conversion import OPSETS
from cutaway.serve.export.encoded import encoded_pictures
from cutaway.serve.metadata import check_seal, from_properties

TINY = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))


def metadata_of(session: ort.InferenceSession):
    return from_properties(session.get_modelmeta().custom_metadata_map)


@pytest.fixture(scope="module")
def lenet_file(lenet, fashion, fashion_preprocessing, pictures, tmp_path_factory):
    """A whole export of a bundle, with its result."""
    restored = SimpleNamespace(
        network=lenet,
        spec=NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28)),
        classes=fashion.classes,
        preprocessing=fashion_preprocessing,
        manifest=SimpleNamespace(metrics={"valid_accuracy": 0.5}, digest=lambda: "ab" * 32),
    )
    evaluation = evaluate(lenet, fashion.test, fashion_preprocessing)
    out = tmp_path_factory.mktemp("export") / "lenet.onnx"
    return export(restored, str(out), images=pictures, evaluation=evaluation), evaluation


def test_the_file_says_what_it_is(lenet_file, fashion, fashion_preprocessing):
    result, evaluation = lenet_file
    data = result.path.read_bytes()
    check_seal(data)
    assert len(data) == result.num_bytes
    metadata = metadata_of(ort.InferenceSession(result.path))
    assert metadata == result.metadata
    assert metadata.classes == fashion.classes
    assert metadata.preprocessing == fashion_preprocessing
    assert (metadata.network, metadata.bundle, metadata.method) == ("lenet5", "ab" * 32, "grad-cam")
    assert metadata.metrics == {"valid_accuracy": 0.5}
    assert np.array_equal(metadata.confusion_matrix, evaluation.confusion)
    assert metadata.versions["torch"] == torch.__version__.split("+")[0]
    assert metadata.verification.data == "8 given pictures"
    assert metadata.verification.thresholds["probability_difference"] == 1e-4
    assert result.explained
    assert not result.why_not_explained


def test_it_was_compared_in_batches_and_pictures_of_several_sizes_and_from_encoded_files(lenet_file):
    figures = lenet_file[0].figures
    assert figures.batch_sizes == (1, 3, 8, 3)
    assert figures.picture_sizes == ((28, 28), (35, 22), (28, 28), (14, 42))
    assert figures.encoded_pictures == len(encoded_pictures([np.zeros((28, 28, 1), np.uint8)])) > 6
    assert figures.encoded_share == 1
    assert figures.encoded_top1_agreement == 1
    assert 0 < figures.encoded_probability_difference < 1e-5


def test_the_graph_is_standard_with_open_dimensions(lenet_file):
    model = onnx.load(lenet_file[0].path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    n = shapes["class_index"][0]
    assert shapes == {
        "images": [n, "H", "W", 3],
        "class_index": [n],
        "logits": [n, 10],
        "probabilities": [n, 10],
        "heatmap": [n, *shapes["heatmap"][1:]],
        "heatmap_faint": [n],
    }
    assert all(isinstance(side, int) for side in shapes["heatmap"][1:])
    assert list(lenet_file[0].path.parent.iterdir()) == [lenet_file[0].path]


def test_on_1000_test_pictures_probabilities_and_top_1_are_pytorch_s(lenet_file, fashion):
    result, evaluation = lenet_file
    session = ort.InferenceSession(result.path)
    images = np.stack([np.repeat(fashion.test.image(n), 3, axis=2) for n in range(len(fashion.test))])
    assert len(images) == 1000
    probabilities = np.concatenate(
        [
            session.run(["probabilities"], {"images": part, "class_index": np.full(len(part), -1)})[0]
            for part in np.array_split(images, 7)
        ]
    )
    assert np.abs(probabilities - evaluation.probabilities.numpy()).max() <= 1e-5
    assert np.array_equal(probabilities.argmax(1), evaluation.predictions.numpy())
    assert evaluation.accuracy > 0.5


def test_the_heat_map_is_captum_s(lenet_file, lenet, fashion, fashion_preprocessing):
    result, _ = lenet_file
    images = np.stack([fashion.test.image(n) for n in range(60)])
    labels = fashion.test.labels[:60]
    inputs = torch.from_numpy(fashion_preprocessing.normalise(images))
    layer = lenet.get_submodule(result.metadata.target_layer)
    theirs = LayerGradCam(lenet, layer).attribute(inputs, torch.from_numpy(labels), relu_attributions=True)
    feeds = {"images": np.repeat(images, 3, axis=3), "class_index": labels}
    (ours,) = ort.InferenceSession(result.path).run(["heatmap"], feeds)
    correlations, differences = compare_heatmaps(ours, theirs[:, 0].detach().numpy())
    assert ours.max() > 0
    # Where two inputs of the max pooling are as good as equal, one picture's map may differ by some per cent.
    assert (differences < 1e-4).mean() >= 0.95
    assert np.nanmin(correlations) > 0.99


WITHOUT_TORCH = """
import json, sys
for absent in ("torch", "torchvision", "safetensors", "blake3", "onnx", "onnxscript"):
    sys.modules[absent] = None
from pathlib import Path
from cutaway.images import decode
from cutaway.serve import Classifier
(answer,) = Classifier(sys.argv[1], provider="cpu")([decode(Path(sys.argv[2]))])
print(json.dumps([answer.explained.index, answer.probabilities.tolist(), answer.heatmap.tolist()]))
"""


def test_a_process_without_torch_loads_the_file_and_explains_a_photo(
    lenet_file, lenet, fashion_preprocessing, tmp_path
):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()).save(photo)
    words = [sys.executable, "-c", WITHOUT_TORCH, lenet_file[0].path, photo]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    index, probabilities, heatmap = json.loads(said.stdout)
    inputs = torch.from_numpy(fashion_preprocessing.normalise(fashion_preprocessing.picture(decode(photo))[None]))
    expected = grad_cam(lenet, inputs, lenet_file[0].metadata.target_layer)
    assert index == int(expected.logits.argmax())
    np.testing.assert_allclose([probabilities], expected.logits.softmax(1), atol=1e-5)
    np.testing.assert_allclose([heatmap], expected.maps, atol=1e-4 * float(expected.maps.max()))
    assert expected.maps.max() > 0


def test_answers_worked_out_by_hand(worked_out, tmp_path):
    result = export_module(
        worked_out,
        TINY,
        ["a", "b"],
        tmp_path / "tiny.onnx",
        target_layer="conv",
        images=[np.full((2, 2, 1), 9, np.uint8)],
    )
    pixels = np.array([[51, 255], [153, 102]], np.uint8)  # x = 0.2, 1, 0.6, 0.4
    images = np.repeat(pixels[None, :, :, None], 3, axis=0).repeat(3, axis=3)
    feeds = {"images": images, "class_index": np.array([0, 1, -1])}
    session = ort.InferenceSession(result.path)
    logits, probabilities, heatmap = session.run(["logits", "probabilities", "heatmap"], feeds)
    # Means of the two maps: x -> 0.55; relu(0.5 - x) = 0.3, 0, 0, 0.1 -> 0.1. Rows [1, 2] and [3, -1]:
    np.testing.assert_allclose(logits, [[0.75, 1.55]] * 3, atol=1e-6)
    np.testing.assert_allclose(probabilities[0], np.exp([0.75, 1.55]) / np.exp([0.75, 1.55]).sum(), atol=1e-6)
    # Weights of class 0: 1/4 and 2/4 over the two of four positions where the ReLU is open, on average 1/4 each; the
    # maps at the target layer are those before the in-place ReLU: relu(x / 4 + (0.5 - x) / 4) = 1/8.
    np.testing.assert_allclose(heatmap[0], np.full((2, 2), 0.125), atol=1e-6)
    # Weights of class 1: 3/4 and -1/8: relu(0.875 x - 0.0625).
    np.testing.assert_allclose(heatmap[1], [[0.1125, 0.8125], [0.4625, 0.2875]], atol=1e-6)
    np.testing.assert_array_equal(heatmap[2], heatmap[1])


def test_a_network_in_training_mode_is_exported_in_evaluation_mode_and_left_as_found(
    pictures, fashion_preprocessing, tmp_path
):
    torch.manual_seed(0)
    network = build(NetworkSpec(name="fashion-cnn-bn", num_classes=10, input_shape=(1, 28, 28)))
    network.append(nn.Dropout(0.5))
    network[0].eval()
    network[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, rng = [module.training for module in network.modules()], torch.get_rng_state()
    result = export_module(network, fashion_preprocessing, list("abcdefghij"), tmp_path / "a.onnx", images=pictures)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    assert all(p.grad is None for p in network.parameters())
    images = np.stack([np.repeat(p, 3, axis=2) for p in pictures])
    logits = ort.InferenceSession(result.path).run(["logits"], {"images": images, "class_index": np.full(8, -1)})[0]
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(fashion_preprocessing.normalise(np.stack(pictures))))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_network_without_feature_maps_is_exported_plain_and_says_so(pictures, fashion_preprocessing, tmp_path):
    network = build(NetworkSpec(name="mlp", num_classes=10, input_shape=(1, 28, 28)))
    classes = list("abcdefghij")
    result = export_module(network, fashion_preprocessing, classes, tmp_path / "mlp.onnx", images=pictures)
    assert not result.explained
    assert "no layer whose output is a map" in result.why_not_explained
    session = ort.InferenceSession(result.path)
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities"]
    assert metadata_of(session).method is None
    with pytest.raises(ExportError, match="--no-explain"):
        export_module(network, fashion_preprocessing, classes, tmp_path / "no.onnx", images=pictures, explain=True)
    with pytest.raises(NetworkError, match="has no layer 'nowhere'"):
        export_module(network, fashion_preprocessing, classes, tmp_path / "no.onnx", target_layer="nowhere")
    assert not (tmp_path / "no.onnx").exists()


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_picture_is_told_before_the_work(worked_out, fashion_preprocessing, picture, tmp_path):
    with pytest.raises(ExportError, match="Picture 0 to verify with is"):
        export_module(worked_out, fashion_preprocessing, "ab", tmp_path / "x.onnx", images=[picture])
    with pytest.raises(ExportError, match="Picture 0 to verify with is"):
        verify_file(tmp_path / "none.onnx", worked_out, fashion_preprocessing, "ab", images=[picture])


def test_the_float_form_takes_normalised_inputs(lenet, pictures, fashion_preprocessing, tmp_path):
    out, classes = tmp_path / "float.onnx", list("abcdefghij")
    result = export_module(
        lenet, fashion_preprocessing, classes, out, images=pictures, input_form="float", explain=False
    )
    session = ort.InferenceSession(out)
    assert metadata_of(session).input == "float"
    assert session.get_inputs()[0].type == "tensor(float)"
    assert session.get_inputs()[0].shape[1:] == [1, 28, 28]
    inputs = fashion_preprocessing.normalise(np.stack(pictures[:5]))
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(["logits"], {"images": inputs})[0], lenet(torch.from_numpy(inputs)), atol=1e-5
        )
    assert result.figures.batch_sizes == (1, 3, 8, 3)
    assert result.figures.picture_sizes == ()


@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_the_oldest_and_the_newest_operators_explain_too(opset, worked_out, tmp_path):
    out = tmp_path / "x.onnx"
    result = export_module(worked_out, TINY, "ab", out, target_layer="conv", input_form="float", opset=opset)
    assert [entry.version for entry in onnx.load(out).opset_import] == [opset]
    assert result.figures.heatmap_share == 1


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1])
def test_other_operators_are_refused(opset, worked_out, tmp_path):
    with pytest.raises(ExportError, match=f"Opset {opset} cannot be exported"):
        export_module(worked_out, TINY, "ab", tmp_path / "x.onnx", opset=opset)


class Scale(nn.Module):
    """The end of a faulty network: whatever `change` makes of the logits."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


FAULTS = {
    "returns a tuple": (lambda x: (x, x), "returns a tuple"),
    "returns the wrong number of classes": (lambda x: x[:, :1], r"must return logits \[2, 2\]"),
    "loses a batch of one": (lambda x: x.squeeze(), r"must return logits \[1, 2\], and it returns \[2\]"),
    "branches on values": (lambda x: x * 2 if x.sum() > 0 else x, "branches on the values of tensors"),
    "depends on the batch": (lambda x: x - x.mean(0), "depends on the others of its batch"),
    "answers by chance": (lambda x: nn.functional.dropout(x, 0.3), "answers the same picture differently"),
    "bakes the batch in": (lambda x: x.reshape(2, 2), r"run on one picture, .* should use x\.shape\[0\]"),
    "branches on the batch": (lambda x: x.reshape(2, 2) if len(x) == 2 else x, "batch size"),
    "fails": (lambda x: x @ torch.ones(3, 2), "does not run on inputs"),
    "gives no numbers": (lambda x: x * float("nan"), "logits are not finite"),
    "cuts off gradients": (lambda x: x.detach() + 0, "cuts off gradients"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_network_is_a_clear_error_and_leaves_no_file(fault, worked_out, tmp_path):
    change, message = FAULTS[fault]
    network = nn.Sequential(worked_out, Scale(change))
    pictures = list(np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), dtype=np.uint8))
    out = tmp_path / "x.onnx"
    with pytest.raises(ExportError, match=message):
        export_module(network, TINY, ["a", "b"], out, target_layer="0.conv", images=pictures, input_form="float")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_network_that_fails_keeps_no_other_from_being_exported(worked_out, tmp_path):
    closed = nn.Sequential(worked_out, Scale(lambda x: x.reshape(2, 2) if len(x) == 2 else x))
    with pytest.raises(ExportError, match="batch size"):
        export_module(closed, TINY, "ab", tmp_path / "x.onnx", explain=False)
    export_module(worked_out, TINY, "ab", tmp_path / "x.onnx", explain=False)


def test_a_network_of_one_score_is_refused_and_the_pair_of_scores_that_is_advised_gives_its_sigmoid(tmp_path):
    scores = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    with pytest.raises(ExportError, match=r"torch\.cat"):
        export_module(scores, TINY, ["yes"], tmp_path / "x.onnx", explain=False)
    assert list(tmp_path.iterdir()) == []
    score = torch.randn(5, 1)
    pair = torch.cat((0 * score, score), 1)
    torch.testing.assert_close(pair.softmax(1)[:, 1:], score.sigmoid())


def test_a_network_in_float64_is_told_of_where_onnx_runtime_cannot_compute_it(tmp_path):
    network = nn.Sequential(Scale(lambda x: x.double()), nn.Conv2d(1, 2, 2).double(), nn.Flatten())
    with pytest.raises(ExportError, match=r"network\.float\(\)"):
        export_module(network, TINY, ["a", "b"], tmp_path / "x.onnx", explain=False, input_form="float")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_normalises_over_batches_is_refused_before_it_is_traced(worked_out, tmp_path):
    # One picture alone could not tell: beside itself it is answered to the same.
    network = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), worked_out)
    picture = np.random.default_rng(0).integers(0, 256, (2, 2, 1), dtype=np.uint8)
    with pytest.raises(ExportError, match="'0' normalises by the batch's own statistics"):
        export_module(network, TINY, ["a", "b"], tmp_path / "x.onnx", explain=False, images=[picture])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_disagrees_leaves_the_earlier_one(worked_out, tmp_path):
    out = tmp_path / "x.onnx"
    out.write_bytes(b"earlier")
    with pytest.raises(ExportError, match="heat-maps disagree"):
        export_module(
            worked_out,
            TINY,
            ["a", "b"],
            out,
            target_layer="conv",
            input_form="float",
            thresholds=Thresholds(heatmap_share=2.0),
        )
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


class Inexact(nn.Module):
    """Of logits that no engine gives twice: off by `error` whenever PyTorch computes them in float32 itself."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        inexact = type(x) is torch.Tensor and x.dtype == torch.float32 and len(x) == 1
        return x * (1 + self.error) if inexact else x


@pytest.mark.slow
def test_a_network_that_float32_leaves_open_is_exported_within_its_own_error(worked_out, tmp_path):
    network = nn.Sequential(worked_out, Inexact(2e-3))
    pictures = list(np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), dtype=np.uint8))
    export_ = partial(export_module, preprocessing=TINY, classes=["a", "b"], target_layer="0.conv", images=pictures)
    result = export_(network, out=tmp_path / "x.onnx", input_form="float")
    assert 1e-4 < result.figures.probability_difference < 1.1 * result.figures.probability_rounding
    assert result.metadata.verification.thresholds["times_rounding_of_pytorch"] == 5
    with pytest.raises(ExportError, match="are open in float32"):
        export_(nn.Sequential(worked_out, Inexact(0.1)), out=tmp_path / "y.onnx", input_form="float")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_without_pictures_it_says_that_they_were_generated(worked_out, tmp_path):
    shown: list[tuple[str, int | None]] = []

    def track(items, description, total=None):
        shown.append((description, total))
        yield from items

    out = tmp_path / "x.onnx"
    result = export_module(worked_out, TINY, ["a", "b"], out, target_layer="conv", input_form="float", track=track)
    assert "generated pictures" in result.metadata.verification.data
    assert shown == [("tracing", 1), ("verifying", 4)]


@pytest.mark.slow
def test_the_same_network_gives_the_same_bytes_in_another_process_and_folder(tmp_path):
    code = """
import sys, torch
from pathlib import Path
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import export_module
torch.manual_seed(0)
network = build(NetworkSpec(name="fashion-cnn-bn", num_classes=10, input_shape=(1, 28, 28)))
spec = Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,))
result = export_module(network, spec, list("abcdefghij"), Path(sys.argv[1]))
assert result.explained
"""
    root = Path(__file__).parents[3]
    files, processes = [], []
    for seed in ("1", "2"):
        folder = tmp_path / f"somewhere-{seed}"
        folder.mkdir()
        files.append(folder / f"{seed}.onnx")
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "HOME": str(folder), "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-W", "ignore", "-c", code, files[-1]]
        processes.append(subprocess.Popen(command, cwd=folder, env=environment))
    assert [process.wait() for process in processes] == [0, 0]
    first, second = (file.read_bytes() for file in files)
    assert first == second
    for path in (str(tmp_path), str(root), str(Path.home()), sys.prefix, ".py", "somewhere"):
        assert path.encode() not in first


def test_no_pair_of_slices_is_searched_for_and_the_optimiser_is_left_as_it_was(worked_out, tmp_path, monkeypatch):
    rules, used, plain = rewriter._DEFAULT_REWRITE_RULES, [], rewriter.RewritePass.__init__

    def noted(self, given, /):
        used.extend(rule.name for rule in getattr(given, "rules", given))
        plain(self, given)

    monkeypatch.setattr(rewriter.RewritePass, "__init__", noted)
    export_module(worked_out, TINY, "ab", tmp_path / "x.onnx", explain=False, input_form="float")
    assert len(used) > 10
    assert "SlicesSplit" not in used
    assert rewriter._DEFAULT_REWRITE_RULES is rules
    assert "SlicesSplit" in [rule.name for rule in rules]


def test_versions_are_told_where_onnxruntime_came_as_onnxruntime_gpu(monkeypatch):
    found = importlib.metadata.distribution

    def distribution(name):
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert pipeline._versions()["onnxruntime"] == ort.__version__
