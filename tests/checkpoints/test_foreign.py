"""Real files of torch.save and safetensors: what is read, what is refused and why, and that nothing in one runs."""

import argparse
import os
import random
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from cutaway.checkpoints import write_bundle
from cutaway.checkpoints.foreign import KNOWN_KEYS, read_weights, to_pth
from cutaway.errors import BundleError, CutawayError
from cutaway.networks import build


@pytest.fixture
def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).state_dict()


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path


def assert_equal(weights, state):
    tensors = weights.read(weights.shapes)
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        assert torch.equal(tensors[name], tensor)
        assert weights.shapes[name].shape == tuple(tensor.shape)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w"])
def test_a_state_dict_is_read_whatever_its_file_is_called(state, tmp_path, name):
    weights = read_weights(saved(state, tmp_path / name))
    assert_equal(weights, state)
    assert weights.key == ""
    assert weights.left_out == ()


def test_files_of_before_pytorch_1_6_are_read(state, tmp_path):
    path = saved(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert_equal(read_weights(path), state)


def test_safetensors_are_read(state, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "w.bin")
    assert_equal(read_weights(tmp_path / "w.bin"), state)
    with pytest.raises(BundleError, match="no key 'model'"):
        read_weights(tmp_path / "w.bin", key="model")


def test_parameters_and_views_are_read_as_plain_tensors(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    weights = read_weights(saved({"a": nn.Parameter(whole), "b": whole.t(), "c": whole[1:, ::2]}, tmp_path / "w.pth"))
    tensors = weights.read(["a", "b", "c"])
    assert torch.equal(tensors["b"], whole.t())
    assert torch.equal(tensors["c"], whole[1:, ::2])
    assert all(t.is_contiguous() and not t.requires_grad and type(t) is torch.Tensor for t in tensors.values())


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_weights_in_a_training_checkpoint_are_found(state, tmp_path, key):
    adam = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    adam.param_groups[0]["params"][0].grad = torch.ones(2)
    adam.step()
    content = {"epoch": 3, "best": 0.9, "optimizer": adam.state_dict(), "rng": torch.get_rng_state(), key: state}
    weights = read_weights(saved(content, tmp_path / "w.pth"))
    assert_equal(weights, state)
    assert weights.key == key
    assert weights.other_keys == ()


def test_an_optimizer_s_state_by_names_is_not_taken_for_weights(state, tmp_path):
    """As torch.distributed.checkpoint keeps it."""
    moments = {
        name: {"exp_avg": tensor, "exp_avg_sq": tensor, "step": torch.ones(())} for name, tensor in state.items()
    }
    path = saved({"optimizer": {"state": moments}, "mine": state}, tmp_path / "w.pth")
    weights = read_weights(path)
    assert (weights.key, weights.other_keys) == ("mine", ())


def test_weights_two_levels_down_are_found(state, tmp_path):
    weights = read_weights(saved({"model": {"state_dict": state, "name": "resnet"}}, tmp_path / "w.pth"))
    assert weights.key == "model.state_dict"
    assert_equal(weights, state)


def test_the_likeliest_of_several_is_taken_and_the_others_are_told(state, tmp_path):
    other = {name: tensor + 1 for name, tensor in state.items()}
    path = saved({"ema": other, "model": state}, tmp_path / "w.pth")
    weights = read_weights(path)
    assert (weights.key, weights.other_keys) == ("model", ("ema",))
    assert_equal(weights, state)
    assert_equal(read_weights(path, key="ema"), other)


def test_several_of_which_none_is_likelier_are_a_question(state, tmp_path):
    path = saved({"teacher": state, "student": state}, tmp_path / "w.pth")
    with pytest.raises(BundleError, match="2 places: teacher, student") as error:
        read_weights(path)
    assert "--key" in error.value.hint
    assert read_weights(path, key="student").key == "student"
    with pytest.raises(BundleError, match="no weights under 'pupil'"):
        read_weights(path, key="pupil")


def test_what_is_no_tensor_in_a_state_dict_is_told(state, tmp_path):
    weights = read_weights(saved(state | {"_extra_state": {"a": torch.ones(1)}, "n": 3}, tmp_path / "w.pth"))
    assert weights.left_out == ("_extra_state", "n")
    assert weights.key == ""


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_does_not_run(state, tmp_path, archive):
    marker = tmp_path / "ran"
    path = saved({"model": state, "x": Bomb(marker)}, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(BundleError, match=r"would run (os|posix)\.system") as error:
        read_weights(path)
    assert "state_dict()" in error.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("archive", [True, False])
def test_a_checkpoint_with_more_than_tensors_is_refused_by_name(state, tmp_path, archive):
    content = {"model": state, "args": argparse.Namespace(lr=0.1)}
    path = saved(content, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    with pytest.raises(BundleError, match=r"argparse\.Namespace"):
        read_weights(path)


def test_a_whole_module_is_refused_in_words(tmp_path):
    with pytest.raises(BundleError, match="whole module, not its weights") as error:
        read_weights(saved(nn.Linear(2, 2), tmp_path / "w.pth"))
    assert "torch.nn.modules.linear.Linear" in error.value.message


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_refused_in_words(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(BundleError, match="TorchScript archive: it holds a program"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore")
def test_a_pickle_protocol_that_torch_does_not_read_is_said(state, tmp_path):
    with pytest.raises(BundleError, match="pickled in a way"):
        read_weights(saved(state, tmp_path / "w.pth", pickle_protocol=4))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither"),
        (b"hello, I am no weights", "neither"),
        (b"\x80\x02", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (b"\x10" + b"\0" * 7 + b"{not json       ", "not a safetensors file"),
        (b"\xff" * 8 + b"{", "not a safetensors file"),
    ],
)
def test_bytes_that_are_no_weights_are_said_to_be_none(tmp_path, content, said):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(BundleError, match=said):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {1: torch.ones(1)}, 7, {"a": {"b": {}}}])
def test_a_file_without_weights_is_said_to_hold_none(tmp_path, content):
    with pytest.raises(BundleError, match="holds no state dict"):
        read_weights(saved(content, tmp_path / "w.pth"))


def test_other_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("a/model.json", "{}")
    with pytest.raises(BundleError, match=r"torch\.save did not write"):
        read_weights(tmp_path / "w.pth")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(state, tmp_path):
    path = saved(state, tmp_path / "w.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"\0" * 10_000_000 if entry.filename.endswith("data/0") else old.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(BundleError, match="far more memory"):
        read_weights(tmp_path / "bomb.pth")


def test_tensors_that_are_not_plain_are_refused(tmp_path):
    for odd in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
        with pytest.raises(BundleError, match=r"'odd'.*sparse, quantized or without data"):
            read_weights(saved({"odd": odd}, tmp_path / "w.pth"))


def test_a_tensor_larger_than_its_file_is_known_by_its_shape_before_it_is_read(tmp_path):
    weights = read_weights(saved({"w": torch.ones(1).expand(10**12)}, tmp_path / "w.pth"))
    assert weights.shapes["w"].shape == (10**12,)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "legacy.pth"])
def test_a_file_cut_short_anywhere_or_with_wrong_bytes_gives_weights_or_a_sentence(state, tmp_path, name):
    path = tmp_path / name
    if name == "w.safetensors":
        safetensors.torch.save_file(state, path)
    else:
        saved(state, path, _use_new_zipfile_serialization=name == "w.pth")
    whole = path.read_bytes()
    chance = random.Random(0)
    failed = 0
    for at in [*(int(point) for point in np.linspace(0, len(whole) - 1, 40)), *range(60)]:
        data = bytearray(whole[:at] if at % 2 else whole)
        for _ in range(3 if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            weights = read_weights(path)
            weights.read(name for name, what in weights.shapes.items() if np.prod(what.shape) < 1000)
        except CutawayError:
            failed += 1
    assert failed > 20


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(BundleError, match="cannot be read"):
        read_weights(tmp_path)


def test_the_way_back_gives_a_plain_state_dict_in_the_network_s_own_order(tmp_path, make_manifest):
    manifest = make_manifest()
    torch.manual_seed(1)
    network = build(manifest.network)
    bundle = tmp_path / "step-00000001"
    write_bundle(bundle, manifest, {"model": network.state_dict()})
    out = tmp_path / "new" / "model.pth"
    to_pth(bundle, out)
    back = torch.load(out, weights_only=True)
    assert list(back) == list(network.state_dict())
    assert all(torch.equal(back[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.serialization.get_unsafe_globals_in_checkpoint(out) == []
    network.load_state_dict(back)
    assert str(tmp_path).encode() not in out.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.pth"]
    with pytest.raises(BundleError, match="exists already"):
        to_pth(bundle, out)


def test_the_way_back_refuses_a_damaged_bundle(tmp_path, make_manifest):
    manifest = make_manifest()
    bundle = tmp_path / "step-00000001"
    write_bundle(bundle, manifest, {"model": build(manifest.network).state_dict()})
    file = bundle / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="its hash differs"):
        to_pth(bundle, tmp_path / "model.pth")
    assert not (tmp_path / "model.pth").exists()
