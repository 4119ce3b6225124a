"""Auxiliary heads: their share of the loss by hand, and that nothing but training knows them."""

from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cutaway.checkpoints import restore
from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, build, build_on_meta
from cutaway.networks.heads import find_parts
from cutaway.train import TrainSettings, train
from cutaway.train.stepping import step

Outputs = namedtuple("Outputs", ["logits", "aux_logits2", "aux_logits1"])
INPUTS, LABELS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])


class WithTwo(nn.Module):
    """The outputs of GoogLeNet in training, of three matrices."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))

    def forward(self, x):
        scores = [head(x) for head in self.heads]
        return Outputs(*scores) if self.training else scores[0]


def loss_by_hand(network, weight, smoothing):
    losses = [F.cross_entropy(INPUTS @ head.weight.T, LABELS, label_smoothing=smoothing) for head in network.heads]
    return losses[0] + weight * (losses[1] + losses[2])


@pytest.mark.parametrize(("weight", "smoothing"), [(0.4, 0.0), (0.4, 0.1), (0.0, 0.0), (1.5, 0.0)])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(3, 1), (2, 2)])
def test_the_loss_is_the_main_one_and_the_weighted_others(make_session, weight, smoothing, batch_size, accumulate):
    network = WithTwo()
    wanted = loss_by_hand(network, weight, smoothing)
    gradients = torch.autograd.grad(wanted, list(network.parameters()))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "label_smoothing": smoothing}
    session = make_session(network, auxiliary_weight=weight, batch_size=batch_size, accumulate=accumulate, **settings)
    loss = step(session, INPUTS, LABELS, 0.5)
    torch.testing.assert_close(loss, wanted.detach())
    for parameter, start, gradient in zip(network.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.data, start - 0.5 * gradient)


@pytest.mark.slow
def test_googlenet_learns_with_them_and_answers_without(tmp_path, pictures):
    common = {"data": f"folder:{pictures}", "network": "torchvision:googlenet", "image_size": 32, "epochs": 1}
    settings = TrainSettings(**common, batch_size=26, freeze_backbone=1, out=tmp_path / "with")
    network = restore(train(settings).run).network
    begun = {key for key in network.state_dict() if key.startswith("aux")}
    assert begun
    assert isinstance(network(torch.rand(2, 3, 32, 32)), torch.Tensor)
    torch.manual_seed(0)
    first = build(restore(settings.out).spec).state_dict()
    moved = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, first[key])}
    assert moved == {f"{head}.{kind}" for head in ("fc", "aux1.fc2", "aux2.fc2") for kind in ("weight", "bias")}
    without = TrainSettings(**common, auxiliary_weight=0, batch_size=26, out=tmp_path / "without")
    assert not [key for key in restore(train(without).run).network.state_dict() if key.startswith("aux")]
    # A run without them can begin with one that has them, and the other way round.
    for start, weight, out in (("with", 0.0, "a"), ("without", 0.4, "b")):
        notes = []
        begins = {"init_from": str(tmp_path / start), "auxiliary_weight": weight, "out": tmp_path / out}
        train(TrainSettings(**common, **begins, batch_size=26), on_note=notes.append)
        assert ("Left out: aux1" if start == "with" else "New: aux1") in notes[0]


@pytest.mark.parametrize(
    ("name", "heads", "ends"),
    [
        ("googlenet", {"aux1", "aux2"}, {"fc", "aux1.fc2", "aux2.fc2"}),
        ("inception_v3", {"AuxLogits"}, {"fc", "AuxLogits.fc"}),
    ],
)
def test_they_are_told_from_the_main_head(name, heads, ends):
    shape = (3, 299, 299)
    spec = NetworkSpec(name=f"torchvision:{name}", num_classes=5, input_shape=shape, arguments={"aux_logits": True})
    network = build_on_meta(spec)
    parts = find_parts(network, shape, 5)
    assert (set(parts.auxiliary), set(parts.head)) == (heads, ends)
    other = {key: p.shape for key, p in build_on_meta(spec.model_copy(update={"num_classes": 6})).named_parameters()}
    changed = {key for key, parameter in network.named_parameters() if parameter.shape != other[key]}
    assert changed == {key for key, _ in network.named_parameters() if parts.stage_of(key) is None}


def test_pictures_too_small_for_them_are_told(tmp_path, pictures):
    settings = TrainSettings(
        data=f"folder:{pictures}", network="torchvision:inception_v3", image_size=96, out=tmp_path / "run"
    )
    with pytest.raises(NetworkError, match="auxiliary heads") as error:
        train(settings)
    assert "--image-size 299, or --auxiliary-weight 0" in error.value.hint


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [("resnet18", {"aux_logits": True}, "no argument 'aux_logits'"), ("googlenet", {"aux_logits": 1}, "true or false")],
)
def test_other_networks_have_none(name, arguments, said):
    with pytest.raises(NetworkError, match=said):
        build(NetworkSpec(name=f"torchvision:{name}", num_classes=2, input_shape=(3, 64, 64), arguments=arguments))
