"""The average against its recurrence, and that it is what is validated, restored and shipped."""

import pytest
import torch
from torch import nn

from cutaway.checkpoints import read_tensors, restore
from cutaway.checkpoints.restoring import AVERAGED, build_from
from cutaway.evaluation import evaluate
from cutaway.train import TrainSettings, train
from cutaway.train.preparing import load_data
from cutaway.train.recipe.averaging import Average
from cutaway.train.stepping import step


def test_it_follows_the_recurrence(make_session):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    session = make_session(network, ema_decay=0.5, lr=0.1)
    wanted = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for number in range(1, 13):
        step(session, torch.randn(4, 4), torch.tensor([0, 1, 0, 1]), 0.1)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, tensor in network.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor.clone()
    averaged = session.recipe.average.tensors()
    torch.testing.assert_close(averaged, wanted)
    assert averaged["1.num_batches_tracked"] == 12
    assert not torch.allclose(averaged["0.weight"], network[0].weight)
    assert (1 + 12) / (10 + 12) > 0.5 > 2 / 11


def test_it_needs_no_gradients_and_leaves_the_network_training():
    network = nn.Linear(2, 2).train()
    average = Average(network, 0.9)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures):
    settings = {"data": f"folder:{pictures}", "network": "fashion-cnn-bn", "image_size": 28, "epochs": 2}
    out = tmp_path_factory.mktemp("averaged") / "run"
    return train(TrainSettings(out=out, batch_size=16, ema_decay=0.9, lr=0.01, **settings))


def test_the_average_is_what_is_restored(trained):
    own = read_tensors(trained.last.path, trained.last.manifest, "model")
    kept = read_tensors(trained.last.path, trained.last.manifest, "training")
    restored = restore(trained.last.path).network.state_dict()
    assert all(torch.equal(tensor, kept[f"{AVERAGED}{name}"]) for name, tensor in restored.items())
    assert not torch.equal(own["out.weight"], restored["out.weight"])
    weights = build_from(trained.last, averaged=False).state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in weights.items())


def test_the_average_is_what_is_validated(trained):
    from cutaway.checkpoints import Run

    data = load_data(TrainSettings(data=trained.last.manifest.configuration["data"]))
    restored = restore(trained.last.path)
    answers = evaluate(restored.network, data.valid, restored.preprocessing, batch_size=512)
    told = [entry for entry in Run(trained.run).journal() if entry["kind"] == "epoch"][-1]
    assert told["valid_loss"] == pytest.approx(answers.loss, rel=1e-5)
    weights = build_from(trained.last, averaged=False).eval()
    other = evaluate(weights, data.valid, restored.preprocessing, batch_size=512)
    assert told["valid_loss"] != pytest.approx(other.loss, rel=1e-3)


def test_the_average_is_what_leaves_as_a_foreign_file(trained, tmp_path):
    from cutaway.checkpoints.foreign import to_pth

    path = tmp_path / "weights.pth"
    to_pth(trained.last.path, path)
    weights = torch.load(path, weights_only=True)
    restored = restore(trained.last.path).network.state_dict()
    assert torch.equal(weights["out.weight"], restored["out.weight"])
