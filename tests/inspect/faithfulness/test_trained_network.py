"""On a network that was really trained: maps that are right beat maps that are not."""

import pytest

from cutaway.batches import Feed
from cutaway.checkpoints import restore
from cutaway.datasets import load
from cutaway.inspect.faithfulness import compare_methods, explainer, randomisation_check
from cutaway.train import TrainSettings, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A fashion-cnn that learned the sample for two epochs, and 24 test pictures."""
    out = tmp_path_factory.mktemp("run")
    settings = TrainSettings(network="fashion-cnn", epochs=2, batch_size=128, lr=0.003, out=out / "run")
    restored = restore(train(settings).best.path)
    feed = Feed(load("fashion-mnist-sample", seed=0).test, restored.preprocessing)
    return restored, feed.inputs(next(feed.batches(24)))


@pytest.mark.slow
def test_gradients_of_the_network_beat_random_maps(trained):
    restored, inputs = trained
    methods = {name: explainer(name) for name in ("integrated-gradients", "occlusion", "saliency")}
    found = compare_methods(
        restored.network,
        inputs,
        {name: lambda x, c, e=explain: e(restored.network, x, c) for name, explain in methods.items()},
        metrics=["deletion", "insertion", "road"],
    )
    for metric in found.metrics:
        assert found.beats_random("integrated-gradients", metric), metric
        assert found.beats_random("occlusion", metric), metric


@pytest.mark.slow
def test_grad_cam_forgets_with_the_network_and_guided_backprop_stays_longer(trained):
    restored, inputs = trained
    cam, guided = (
        randomisation_check(restored.network, inputs, explainer(name)) for name in ("grad-cam", "guided-backprop")
    )
    assert cam.depends_on_weights
    assert guided.rank_correlation[0].mean() > cam.rank_correlation[0].mean() + 0.2
