"""Noticing networks whose answer to a picture depends on the pictures beside it."""

import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError
from cutaway.hooks import layers_over_batches, why_alone


class Centred(nn.Module):
    """Takes the batch's mean off each picture's logits, as no module shows."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)
        self.runs = 0
        self.strength = nn.Parameter(torch.ones(()))

    def forward(self, x):
        self.runs += 1
        logits = self.fc(x.flatten(1))
        return logits - self.strength * logits.mean(0, keepdim=True)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(x.flatten(1)) + torch.rand(len(x), 3)


def norms(**options):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, **options), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def asked(network, count=2):
    torch.manual_seed(0)
    with torch.no_grad():
        return why_alone(network.eval(), torch.rand(count, 1, 4, 4))


def test_batch_norms_without_running_statistics_are_named():
    assert layers_over_batches(norms()) == ()
    assert layers_over_batches(norms(track_running_stats=False)) == ("1",)
    assert layers_over_batches(nn.DataParallel(norms(track_running_stats=False))) == ("1",)
    assert layers_over_batches(nn.InstanceNorm2d(2)) == ()
    assert asked(norms()) is None
    assert "'1' normalises by the batch's own statistics" in asked(norms(track_running_stats=False))


def test_a_network_that_mixes_by_itself_is_found_by_asking_it():
    assert "depends on the pictures beside it" in asked(Centred())
    # One picture is enough to notice.
    assert "depends on the pictures beside it" in asked(Centred(), count=1)


def test_chance_is_not_taken_for_the_pictures_beside():
    assert asked(Noisy()) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_mix_no_less_and_no_more(dtype):
    torch.manual_seed(0)
    pictures = torch.rand(2, 1, 4, 4, dtype=dtype)
    with torch.no_grad():
        assert why_alone(norms().to(dtype).eval(), pictures) is None
        assert why_alone(Centred().to(dtype).eval(), pictures) is not None


def test_a_network_of_one_picture_at_a_time_is_given_one():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, 3)

        def forward(self, x):
            return self.fc(x.reshape(1, 16))

    assert asked(Single()) == "it takes one picture at a time"


def test_one_that_cannot_answer_to_a_single_picture_is_refused():
    alone = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(InspectionError, match="cannot answer to one picture alone: '2'"):
        asked(alone)


def test_the_answer_is_remembered_until_the_weights_change():
    network = Centred()
    with torch.no_grad():
        network.strength.zero_()
    assert asked(network) is None
    runs = network.runs
    assert asked(network) is None
    assert network.runs == runs
    with torch.no_grad():
        network.strength.fill_(1)
    assert asked(network) is not None
