"""Bundles made of foreign weights answer as the network that the weights come from."""

import hashlib
import os

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cutaway.checkpoints import restore, verify_bundle
from cutaway.checkpoints.importing import import_weights, is_imported
from cutaway.errors import BundleError, CutawayError, NetworkError
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing

GREY = Preprocessing(size=(4, 4), color="grey", mean=(0.5,), std=(0.25,))
CLASSES = ("cat", "dog", "eel")
MLP = {"network": "mlp", "classes": CLASSES, "preprocessing": GREY, "arguments": {"hidden": 5}}


@pytest.fixture
def theirs():
    """Their network, made by PyTorch alone with the names that our mlp has."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc1", nn.Linear(16, 5))
    network.add_module("relu1", nn.ReLU())
    network.add_module("out", nn.Linear(5, 3))
    return network.eval()


@pytest.fixture
def weights(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def save(state, weights):
    torch.save(state, weights)
    return weights


def test_an_imported_bundle_answers_as_the_network_that_the_weights_come_from(theirs, weights, tmp_path):
    made = import_weights(weights, tmp_path / "run", **MLP)
    restored = restore(tmp_path / "run")
    inputs = torch.rand(7, 1, 4, 4)
    assert torch.equal(restored.network(inputs), theirs(inputs))
    assert made.matching.is_exact
    assert made.notes == ()
    assert made.stored.path == tmp_path / "run" / "checkpoints" / "step-00000000"


def test_its_manifest_says_where_it_comes_from_and_no_more(weights, tmp_path):
    made = import_weights(weights, tmp_path / "run", **MLP)
    manifest = verify_bundle(made.stored.path)
    assert manifest == made.stored.manifest
    assert manifest.classes == CLASSES
    assert manifest.preprocessing == GREY
    assert manifest.network == NetworkSpec(name="mlp", num_classes=3, input_shape=(1, 4, 4), arguments={"hidden": 5})
    assert manifest.data.name == "imported"
    assert manifest.data.fingerprint == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert manifest.data.source == "weights file theirs.pth"
    assert (manifest.metrics, manifest.optimizer, list(manifest.files)) == ({}, [], ["model.safetensors"])
    assert manifest.progress.step == 0
    assert is_imported(manifest)
    assert str(tmp_path).encode() not in (made.stored.path / "manifest.json").read_bytes()


def test_half_precision_becomes_the_network_s_own_and_that_is_said(theirs, weights, tmp_path):
    save(theirs.half().state_dict(), weights)
    made = import_weights(weights, tmp_path / "run", **MLP)
    state = restore(tmp_path / "run").network.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert all(torch.equal(state[name].half(), tensor) for name, tensor in theirs.state_dict().items())
    assert made.notes == ("4 tensors were converted from F16 to F32.",)


def test_another_number_of_classes_is_told_in_words(weights, tmp_path):
    with pytest.raises(BundleError) as error:
        import_weights(weights, tmp_path / "run", **MLP | {"classes": ("a", "b")})
    assert "has 3 outputs (at 'out.weight') for 2 labels" in error.value.message
    assert "labels of those 3 classes" in error.value.hint
    assert "--partial loads 2 of 4 tensors" in error.value.hint
    assert not (tmp_path / "run").exists()


def test_partial_loads_what_fits_and_leaves_the_rest_at_the_seed_s_values(theirs, weights, tmp_path):
    options = MLP | {"classes": ("a", "b"), "partial": True}
    states = []
    for seed in (3, 3, 4):
        before = torch.get_rng_state()
        made = import_weights(weights, tmp_path / f"run{len(states)}", seed=seed, **options)
        assert torch.equal(torch.get_rng_state(), before), "importing drew from the global generator"
        states.append(restore(made.stored.path).network.state_dict())
    torch.manual_seed(3)
    expected = build(made.stored.manifest.network).state_dict()
    for name in ("out.weight", "out.bias"):
        assert torch.equal(states[0][name], expected[name])
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name])
    assert torch.equal(states[0]["fc1.weight"], theirs.fc1.weight)
    assert "2 tensors are at their initial values of seed 4: out.weight, out.bias." in made.notes
    assert made.stored.manifest.configuration["initial"] == ["out.weight", "out.bias"]


def test_weights_that_do_not_fit_are_refused_with_a_table_and_what_partial_would_load(theirs, weights, tmp_path):
    state = theirs.state_dict()
    state["fc.bias"] = state.pop("out.bias")
    with pytest.raises(BundleError) as error:
        import_weights(save(state, weights), tmp_path / "run", **MLP)
    assert "out.bias  missing" in error.value.message
    assert "fc.bias   unexpected" in error.value.message
    assert "--partial loads 3 of 4 tensors" in error.value.hint


def test_tensors_without_a_place_are_left_out_with_partial_and_told(theirs, weights, tmp_path):
    save(theirs.state_dict() | {"aux.weight": torch.ones(2)}, weights)
    with pytest.raises(BundleError, match=r"aux\.weight"):
        import_weights(weights, tmp_path / "run", **MLP)
    made = import_weights(weights, tmp_path / "run", partial=True, **MLP)
    assert len(made.matching.loadable) == 4
    assert any("left out: aux.weight" in note for note in made.notes)


def test_nothing_that_fits_is_refused_with_partial_too_and_the_prefix_is_found(theirs, weights, tmp_path):
    save({f"net.model.{name}": tensor for name, tensor in theirs.state_dict().items()}, weights)
    for partial in (False, True):
        with pytest.raises(BundleError, match="Nothing in") as error:
            import_weights(weights, tmp_path / "run", partial=partial, **MLP)
        assert "--strip-prefix net.model." in error.value.hint
    made = import_weights(weights, tmp_path / "run", strip_prefix="net.model.", **MLP)
    assert torch.equal(restore(made.stored.path).network.fc1.weight, theirs.fc1.weight)


def test_nan_is_refused_or_allowed(theirs, weights, tmp_path):
    theirs.out.bias.data[1] = float("nan")
    save(theirs.state_dict(), weights)
    with pytest.raises(BundleError, match=r"'out\.bias' of .*theirs\.pth has 1 of 3"):
        import_weights(weights, tmp_path / "run", **MLP)
    assert not (tmp_path / "run").exists()
    made = import_weights(weights, tmp_path / "run", allow_nan=True, **MLP)
    assert torch.isnan(restore(made.stored.path, allow_nan=True).network.out.bias[1])


def test_doubles_that_overflow_the_network_s_precision_are_no_numbers(theirs, weights, tmp_path):
    state = theirs.double().state_dict()
    state["out.bias"][0] = 1e300
    with pytest.raises(BundleError, match=r"out\.bias"):
        import_weights(save(state, weights), tmp_path / "run", **MLP)


def test_a_directory_with_a_run_is_left_alone(weights, tmp_path):
    made = import_weights(weights, tmp_path / "run", **MLP)
    before = (made.stored.path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="holds a run already"):
        import_weights(weights, tmp_path / "run", **MLP)
    assert (made.stored.path / "manifest.json").read_bytes() == before


def test_an_unknown_network_or_argument_is_a_sentence(weights, tmp_path):
    with pytest.raises(NetworkError, match="mpl"):
        import_weights(weights, tmp_path / "run", **MLP | {"network": "mpl"})
    with pytest.raises(NetworkError, match="depth"):
        import_weights(weights, tmp_path / "run", **MLP | {"arguments": {"depth": 5}})
    with pytest.raises(CutawayError):
        import_weights(weights, tmp_path / "run", **MLP | {"classes": ()})


def test_an_enormous_network_for_a_small_file_takes_no_memory(weights, tmp_path):
    """A terabyte of weights, refused by the shapes alone."""
    huge = Preprocessing(size=(2048, 2048), color="grey", mean=(0.5,), std=(0.25,))
    options = MLP | {"preprocessing": huge, "arguments": {"hidden": 65536}}
    with pytest.raises(BundleError, match=r"fc1\.weight +wrong shape +F32 \[65536, 4194304\]"):
        import_weights(weights, tmp_path / "run", **options)


@pytest.mark.parametrize("old", [False, True])
def test_a_torchvision_network_in_a_wrapped_training_checkpoint(tmp_path, old):
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1(num_classes=3) if old else torchvision.models.resnet18(num_classes=3)
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    if not old:
        # As before PyTorch 0.4.1.
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    content = {"epoch": 9, "model": state, "scheduler": {"last_epoch": 9}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    made = import_weights(
        tmp_path / "w.pth",
        tmp_path / "run",
        network=f"torchvision:{'squeezenet1_1' if old else 'resnet18'}",
        classes=CLASSES,
        preprocessing=Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3),
    )
    inputs = torch.rand(2, 3, 64, 64)
    assert torch.equal(restore(made.stored.path).network(inputs), theirs.eval()(inputs))
    assert made.notes[0] == "The weights are those at 'model'."
    assert made.stored.manifest.configuration["weights_key"] == "model"
    if not old:
        assert "20 counts of BatchNorm are not in the file" in made.notes[1]
        assert made.stored.manifest.configuration["initial"] == []


def test_a_network_that_insists_on_its_modules_versions_is_imported_and_restored(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.mnasnet0_5(num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    preprocessing = Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
    options = {"network": "torchvision:mnasnet0_5", "classes": CLASSES, "preprocessing": preprocessing}
    import_weights(tmp_path / "w.pth", tmp_path / "run", **options)
    inputs = torch.rand(2, 3, 64, 64)
    assert torch.equal(restore(tmp_path / "run").network(inputs), theirs(inputs))


def test_the_run_can_be_written_nowhere(weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        import_weights(weights, tmp_path / "file" / "run", **MLP)


def test_a_file_of_another_user_s_is_refused_in_a_sentence(weights, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    weights.chmod(0)
    with pytest.raises(BundleError, match="cannot be read"):
        import_weights(weights, tmp_path / "run", **MLP)


def test_weights_stored_transposed_in_memory_come_back_in_order(theirs, weights, tmp_path):
    state = theirs.state_dict()
    state["fc1.weight"] = state["fc1.weight"].t().contiguous().t()
    assert not state["fc1.weight"].is_contiguous()
    import_weights(save(state, weights), tmp_path / "run", **MLP)
    restored = restore(tmp_path / "run").network.fc1.weight.detach().numpy()
    np.testing.assert_array_equal(restored, theirs.fc1.weight.detach().numpy())
