"""A session over a network of a few weights, to make single steps with."""

import pytest
import torch

from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.manifest import Data
from cutaway.networks import NetworkSpec
from cutaway.preprocessing import Preprocessing
from cutaway.settings import TrainSettings
from cutaway.train.recipe import assemble, make_criterion, make_optimizer
from cutaway.train.session import Session


@pytest.fixture
def make_session():
    def make(network, **changes):
        settings = TrainSettings(**{"batch_size": 4, "channels_last": False} | changes)
        device = torch.device("cpu")
        return Session(
            settings=settings,
            data=Data(name="d", fingerprint="f", source="s", sizes={"train": 1}),
            spec=NetworkSpec(name="mlp", num_classes=2, input_shape=(1, 2, 2)),
            classes=("cat", "dog"),
            preprocessing=Preprocessing(size=(2, 2), color="grey", mean=(0.5,), std=(0.25,)),
            device=device,
            network=network,
            optimizer=make_optimizer(network, settings),
            recipe=assemble(network, settings, make_criterion(settings, (30, 10), device)),
            loss_sum=torch.zeros((), dtype=torch.float64),
            correct=torch.zeros((), dtype=torch.int64),
            environment=environment(device),
        )

    return make
