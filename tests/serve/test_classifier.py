from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cutaway
from cutaway.errors import DeviceError, ServingError
from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.classifier import Classifier


@pytest.fixture(scope="module")
def classifier(model_path: Path) -> Classifier:
    return Classifier(model_path, provider="cpu")


def test_hand_worked_answer(classifier, pictures) -> None:
    (prediction,) = classifier([pictures("red")])

    # Mean colour (1, 0, 0), so the logits are the first column of the weights.
    expected = np.exp([6, -3, -3, 0.5]) / np.exp([6, -3, -3, 0.5]).sum()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert [score.label for score in prediction.top] == ["red", "grey", "green", "blue"]
    assert prediction.top[0].probability == pytest.approx(expected[0], abs=1e-6)
    assert prediction.explained == prediction.top[0]
    np.testing.assert_allclose(prediction.heatmap, np.full((8, 8), 6.0))
    np.testing.assert_array_equal(prediction.seen, pictures("red"))
    assert prediction.milliseconds > 0


def test_pictures_of_mixed_sizes_and_classes_in_one_run(classifier, pictures, monkeypatch) -> None:
    runs = []
    monkeypatch.setattr(classifier._graph, "_session", _Counting(classifier._graph._session, runs))
    images = [pictures("red", 3, 5), pictures("green", 40, 20), pictures("blue", 8, 8), pictures("grey", 1, 1)]

    together = classifier(images, class_index=[-1, 0, 2, 3], top_k=1)

    assert len(runs) == 1
    assert [p.top[0].label for p in together] == ["red", "green", "blue", "grey"]
    assert [p.explained.label for p in together] == ["red", "red", "blue", "grey"]
    assert not together[1].heatmap.any()  # green pixels speak against red
    for image, target, prediction in zip(images, [-1, 0, 2, 3], together, strict=True):
        (alone,) = classifier([image], class_index=target, top_k=1)
        np.testing.assert_allclose(alone.probabilities, prediction.probabilities, atol=1e-6)
        np.testing.assert_allclose(alone.heatmap, prediction.heatmap, atol=1e-6)


class _Counting:
    def __init__(self, session, runs) -> None:
        self._session, self._runs = session, runs

    def run(self, *arguments):
        self._runs.append(arguments)
        return self._session.run(*arguments)


def test_large_picture_is_fed_at_the_size_the_network_sees(classifier, monkeypatch) -> None:
    runs = []
    monkeypatch.setattr(classifier._graph, "_session", _Counting(classifier._graph._session, runs))
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)

    (prediction,) = classifier([photo])

    np.testing.assert_array_equal(runs[0][1]["images"][0], classifier.metadata.preprocessing.picture(photo))
    np.testing.assert_array_equal(prediction.seen, classifier.metadata.preprocessing.picture(photo))


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (10, 7), (9, 9)])
@pytest.mark.parametrize("color", ["rgb", "grey", "grey3"])
def test_frame_around_a_crop_is_cut_off_again_by_the_same_preprocessing(make_model, size, color) -> None:
    channels = 1 if color == "grey" else 3
    preprocessing = Preprocessing(
        size=size, color=color, resize="shorter", resize_to=11, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    classifier = Classifier(make_model(preprocessing=preprocessing))
    runs: list = []
    classifier._graph._session = _Counting(classifier._graph._session, runs)
    photos = [np.random.default_rng(i).integers(0, 256, (20 + i, 33, 3), dtype=np.uint8) for i in range(3)]

    predictions = classifier(photos)

    # The graph would now resize and crop what it was fed: it must come out as what the network is to see.
    for fed, photo, prediction in zip(runs[0][1]["images"], photos, predictions, strict=True):
        np.testing.assert_array_equal(preprocessing.picture(fed), preprocessing.picture(photo))
        np.testing.assert_array_equal(prediction.seen, preprocessing.picture(photo))


@pytest.mark.slow
@pytest.mark.parametrize(("resize", "resize_to"), [("stretch", None), ("shorter", 28), ("pad", None)])
def test_resizing_before_the_graph_changes_nothing_in_a_real_export(resize, resize_to, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import onnxruntime

    from cutaway.serve.export import export_module

    preprocessing = Preprocessing(
        size=(24, 20),
        resize=resize,
        resize_to=resize_to,
        interpolation="bicubic",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
    )
    path = tmp_path / "model.onnx"
    export_module(network, preprocessing, ("a", "b", "c", "d"), path)
    classifier = Classifier(path, provider="cpu")
    session = onnxruntime.InferenceSession(path)

    for height, width in [(300, 200), (31, 77), (9, 14), (28, 28)]:
        photo = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        raw = session.run(["probabilities", "heatmap"], {"images": photo[None], "class_index": np.array([2])})
        (prediction,) = classifier([photo], class_index=2)
        np.testing.assert_allclose(prediction.probabilities, raw[0][0], atol=1e-6)
        np.testing.assert_allclose(prediction.heatmap, raw[1][0], atol=1e-6)
        with torch.no_grad():
            inputs = torch.from_numpy(preprocessing.normalise(preprocessing.picture(photo)[None]))
            expected = network.eval()(inputs).softmax(1)[0]
        np.testing.assert_allclose(prediction.probabilities, expected.numpy(), atol=1e-5)


def test_predictions_cannot_be_changed(classifier, pictures) -> None:
    (prediction,) = classifier([pictures("red")])
    for name in ("top", "heatmap", "milliseconds"):
        with pytest.raises(FrozenInstanceError):
            setattr(prediction, name, None)
    with pytest.raises(FrozenInstanceError):
        prediction.top[0].probability = 1.0


def test_normalised_input_form_gives_the_same_answers(classifier, make_model) -> None:
    as_floats = Classifier(make_model(input="float"))
    photo = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)

    np.testing.assert_allclose(as_floats([photo])[0].probabilities, classifier([photo])[0].probabilities, atol=1e-6)


def test_file_without_heatmap_classifies(make_model, pictures) -> None:
    plain = Classifier(make_model(target_layer=None, method=None))

    (prediction,) = plain([pictures("blue")])

    assert prediction.top[0].label == "blue"
    assert prediction.heatmap is None
    assert prediction.explained is None


def test_the_files_flag_of_faint_heatmaps_is_told_and_of_files_without_one_found_out(
    classifier, make_model, pictures
) -> None:
    images = [pictures("red"), pictures("green")]

    assert [p.heatmap_faint for p in Classifier(make_model(faint=True))(images)] == [True, True]
    # Red speaks for red, and green against it.
    assert [p.heatmap_faint for p in classifier(images, class_index=0)] == [False, True]
    assert [p.heatmap_faint for p in classifier(images, explain=False)] == [False, False]


def test_no_heatmap_where_none_is_asked_for(classifier, pictures) -> None:
    (prediction,) = classifier([pictures("blue")], explain=False)

    assert prediction.heatmap is None
    assert prediction.explained is None


def test_no_pictures_give_no_predictions(classifier) -> None:
    assert classifier([]) == []


def test_equal_probabilities_are_named_in_class_order(make_model, pictures) -> None:
    undecided = Classifier(make_model(weights=np.zeros((4, 3), np.float32)))

    assert [score.index for score in undecided([pictures("red")])[0].top] == [0, 1, 2, 3]


@pytest.mark.parametrize("class_index", [4, -2, [0], [0, 4], [0, 0, 0]])
def test_impossible_class_is_refused(classifier, pictures, class_index) -> None:
    with pytest.raises(ServingError, match="class"):
        classifier([pictures("red")] * 2, class_index=class_index)


def test_impossible_top_k_is_refused(classifier, pictures) -> None:
    with pytest.raises(ServingError, match="top_k"):
        classifier([pictures("red")], top_k=0)
    assert len(classifier([pictures("red")], top_k=100)[0].top) == 4


def test_many_threads_share_one_classifier(classifier, pictures) -> None:
    # Every call with other pictures, sizes and classes, some without maps: an answer that belongs to another shows.
    colors = ("red", "green", "blue", "grey")
    calls = [([colors[n % 4], colors[n // 4 % 4]], [n // 16 % 4, n // 64 % 4], n % 3 > 0) for n in range(256)]

    def ask(call):
        chosen, targets, explain = call
        images = [pictures(color, 3 + target, 5) for color, target in zip(chosen, targets, strict=True)]
        return classifier(images, class_index=targets, explain=explain)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, calls))

    for call, predictions in zip(calls, together, strict=True):
        assert [prediction.top[0].label for prediction in predictions] == call[0]
        for prediction, alone in zip(predictions, ask(call), strict=True):
            np.testing.assert_array_equal(prediction.probabilities, alone.probabilities)
            assert (prediction.heatmap is None) == (not call[2])
            assert prediction.explained == alone.explained
            if call[2]:
                np.testing.assert_array_equal(prediction.heatmap, alone.heatmap)


def test_threads_that_wait_for_work_leave_the_cores_to_others(classifier) -> None:
    options = classifier._graph._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_says_where_it_really_runs(model_path: Path) -> None:
    import onnxruntime

    classifier = Classifier(model_path)

    assert classifier.providers == tuple(classifier._graph._session.get_providers())
    assert classifier.device == ("cuda" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "cpu")
    assert Classifier(model_path, provider="cpu").providers == ("CPUExecutionProvider",)


def test_cuda_that_is_not_built_in_is_an_error(model_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(DeviceError, match="without CUDA"):
        Classifier(model_path, provider="cuda")


def test_cuda_that_falls_back_in_silence_is_an_error(model_path: Path, monkeypatch) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        "onnxruntime.InferenceSession",
        lambda data, options, providers, **further: real(data, options, providers=["CPUExecutionProvider"]),
    )

    with pytest.raises(DeviceError, match="could not load CUDA"):
        Classifier(model_path, provider="cuda")
    fallen = Classifier(model_path, provider="auto")
    assert fallen.device == "cpu"
    assert fallen.fell_back
    assert fallen.requested == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert fallen.providers == ("CPUExecutionProvider",)


def test_a_run_that_fails_never_goes_on_elsewhere_in_silence(model_path: Path, monkeypatch, pictures, capsys) -> None:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    real = onnxruntime.InferenceSession

    def create(data, options, providers, **further):
        if providers[0] == "CUDAExecutionProvider":
            raise EPFail("no such device")
        return real(data, options, providers=providers, **further)

    monkeypatch.setattr("onnxruntime.InferenceSession", create)
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    fallen = Classifier(model_path)
    assert fallen.fell_back
    with pytest.raises(ServingError, match="no such device"):
        Classifier(model_path, provider="cuda")

    def fail(*arguments):
        raise EPFail("lost the device")

    broken = SimpleNamespace(run=fail, is_webgpu_graph_capture_enabled=lambda: False)
    monkeypatch.setattr(fallen._graph._session, "_sess", broken)
    with pytest.raises(ServingError, match="lost the device"):
        fallen([pictures("red")])
    assert capsys.readouterr().out == ""


def test_unknown_provider_and_no_threads_are_refused(model_path: Path) -> None:
    with pytest.raises(ServingError, match="no provider 'gpu'"):
        Classifier(model_path, provider="gpu")
    with pytest.raises(ServingError, match="threads"):
        Classifier(model_path, threads=0)
    assert not Classifier(model_path, provider="cpu", threads=1).fell_back


def test_what_is_no_file_is_never_read(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(ServingError, match="is not a file"):
        Classifier("/dev/zero")
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate(5 * 2**30)
    with pytest.raises(ServingError, match=r"5.0 GiB"):
        Classifier(huge)


def test_few_bytes_of_metadata_cannot_ask_for_gigabytes(make_model) -> None:
    fields = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    for vast in (
        Preprocessing(size=(16384, 16384), **fields),
        Preprocessing(size=(8, 8), resize="shorter", resize_to=16384, **fields),
    ):
        with pytest.raises(ServingError, match="million"):
            Classifier(make_model(preprocessing=vast))


def test_damaged_file_is_refused(model_path: Path, tmp_path: Path) -> None:
    data = bytearray(model_path.read_bytes())
    at = bytes(data).find(np.float32(6).tobytes())
    data[at + 3] ^= 1
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(data)

    with pytest.raises(ServingError, match="damaged"):
        Classifier(damaged)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_torn_file_is_refused(model_path: Path, tmp_path: Path, keep: int) -> None:
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(model_path.read_bytes()[:keep])

    with pytest.raises(ServingError):
        Classifier(torn)


def test_foreign_onnx_file_is_refused(make_model, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(make_model())
    del model.metadata_props[:]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, foreign)

    with pytest.raises(ServingError, match="not made by cutaway"):
        Classifier(foreign)


def test_newer_format_is_refused_by_name_before_its_operators_are_read(make_model) -> None:
    def future(model) -> None:
        for prop in model.metadata_props:
            if prop.key == "cutaway.format":
                prop.value = "2"
        model.graph.node[0].op_type = "FromTheFuture"

    with pytest.raises(ServingError, match="format 2"):
        Classifier(make_model(edit=future))


def test_missing_file_and_folder_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no file"):
        Classifier(tmp_path / "missing.onnx")
    with pytest.raises(ServingError, match="folder"):
        Classifier(tmp_path)


def test_operators_that_open_files_are_refused_before_they_are_loaded(make_model) -> None:
    from onnx import helper

    def open_a_file(model) -> None:
        operator = {"domain": "com.microsoft", "ep_cache_context": "/etc/passwd"}
        model.graph.node.append(helper.make_node("EPContext", ["mean"], ["x"], **operator))

    with pytest.raises(ServingError, match="EPContext, which is not a standard one"):
        Classifier(make_model(edit=open_a_file))


@pytest.mark.parametrize("location", ["/etc/passwd", "../../secret.bin", "weights.bin"])
@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph", "function"])
def test_weights_in_other_files_are_refused(make_model, location: str, where: str) -> None:
    from onnx import TensorProto, helper

    def point_outside(model) -> None:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        node = helper.make_node("Constant", [], ["w"], value=tensor)
        if where == "initializer":
            model.graph.initializer.append(tensor)
        elif where == "constant":
            model.graph.node.append(node)
        elif where == "subgraph":
            body = helper.make_graph([node], "body", [], [])
            model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=body, else_branch=body))
        else:
            model.functions.append(helper.make_function("local", "f", [], ["w"], [node], []))

    with pytest.raises(ServingError, match="other files"):
        Classifier(make_model(edit=point_outside))


def test_file_that_breaks_the_promises_of_its_metadata_is_refused(make_model) -> None:
    def rename(model) -> None:
        model.graph.output[0].name = "scores"
        model.graph.node[3].output[0] = model.graph.node[4].input[0] = "scores"
        model.graph.node[5].input[0] = "scores"

    with pytest.raises(ServingError, match="metadata"):
        Classifier(make_model(edit=rename))
    with pytest.raises(ServingError, match="3 classes"):
        Classifier(make_model(classes=("a", "b", "c")))


def test_graph_that_cannot_be_loaded_is_refused_in_one_line(make_model) -> None:
    def unknown(model) -> None:
        model.graph.node[0].op_type = "Unknown"

    with pytest.raises(ServingError, match="cannot load") as caught:
        Classifier(make_model(edit=unknown))
    assert "\n" not in str(caught.value)


def test_answer_that_is_not_finite_is_an_error(make_model) -> None:
    with pytest.raises(ServingError, match="not finite"):
        Classifier(make_model(weights=np.full((4, 3), np.nan, np.float32)))


def test_serving_needs_no_torch(model_path: Path) -> None:
    program = """
        import sys
        from importlib.abc import MetaPathFinder

        class Blocked(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "torchvision", "safetensors", "onnx"}:
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocked())
        import io
        from PIL import Image
        from starlette.testclient import TestClient
        from cutaway.serve import Classifier, create_app
        import cutaway.serve.server

        app = create_app(Classifier(sys.argv[1]))
        png = io.BytesIO()
        Image.new("RGB", (20, 20), "blue").save(png, "PNG")
        with TestClient(app, base_url="http://127.0.0.1") as client:
            answer = client.post("/v1/classify?explain=overlay", files={"images": ("a.png", png.getvalue())})
            assert answer.status_code == 200, answer.text
            page = client.get("/")
            assert page.status_code == 200 and "input-image" in page.text
        assert not {"torch", "torchvision", "safetensors", "onnx"} & sys.modules.keys()
        print(answer.json()["results"][0]["top"][0]["label"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(model_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "blue"


OPENING = "import sys; from cutaway.serve import Classifier; Classifier(sys.argv[1], provider='cpu')"


def test_onnx_runtime_notes_nothing_for_its_makers(model_path: Path, tmp_path: Path) -> None:
    """It kept a data base in the home, and sent it after some seconds."""
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= places | {"PYTHONPATH": str(Path(cutaway.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", OPENING, str(model_path)], env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
