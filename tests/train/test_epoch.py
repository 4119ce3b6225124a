"""An epoch's pace by a clock set by hand, and its status against sums worked out by hand."""

import numpy as np
import pytest
import torch

from cutaway.batches import Feed
from cutaway.datasets import Dataset, Split, into_memory
from cutaway.progress import Telling
from cutaway.train import TrainSettings, epoch
from cutaway.train.preparing import describe_input, describe_network, load_data
from cutaway.train.session import begin


@pytest.fixture
def session_and_feed(pictures):
    settings = TrainSettings(data=f"folder:{pictures}", network="mlp", image_size=28, batch_size=16)
    dataset = load_data(settings)
    preprocessing = describe_input(settings, dataset)
    spec = describe_network(settings, dataset, preprocessing)
    dataset = into_memory(dataset, preprocessing, limit_bytes=10**9)
    session = begin(settings, dataset, spec, preprocessing, torch.device("cpu"))
    return session, Feed(dataset.train, preprocessing)


class Clock:
    """Stands still, but for what a test adds."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


def test_only_the_time_until_a_batch_is_there_counts_as_waiting(session_and_feed, monkeypatch):
    session, feed = session_and_feed
    clock = Clock()
    monkeypatch.setattr(epoch, "time", clock)
    batches = feed.batches

    def slow(size, order, **options):
        for batch in batches(size, order, **options):
            clock.now += 3.0
            yield batch
        clock.now += 1.0

    monkeypatch.setattr(feed, "batches", slow)
    running = epoch.Epoch(session, feed)
    for batch in running:
        clock.now += 7.0
        running.learn(batch)
    assert len(running) == 4
    pace = running.pace()
    assert pace.wait_seconds == 4 * 3.0 + 1.0
    assert pace.seconds == 4 * 10.0 + 1.0
    assert pace.images_per_second == session.samples / 41.0
    assert pace.gpu_memory_mb is None


def test_the_pace_of_a_resumed_epoch_is_of_this_process_alone(session_and_feed):
    session, feed = session_and_feed
    first = epoch.Epoch(session, feed)
    first.learn(next(iter(first)))
    rest = epoch.Epoch(session, feed)
    assert (len(first), len(rest), rest.batches) == (4, 3, 4)
    assert rest.pace().images_per_second is None
    assert not rest.is_over
    for batch in rest:
        rest.learn(batch)
    assert rest.is_over


def test_the_status_is_the_mean_so_far(session_and_feed, monkeypatch):
    session, feed = session_and_feed
    monkeypatch.setattr(epoch, "time", clock := Clock())
    running = epoch.Epoch(session, feed)
    assert isinstance(running, Telling)
    assert running.status() == ""
    session.samples = 40
    session.loss_sum.fill_(10.0)
    session.correct.fill_(30)
    for scale, group in zip((1, 0.1), session.optimizer.param_groups, strict=True):
        group["lr"] = 0.00125 * scale
    clock.now += 0.01
    assert running.status() == "loss 0.250  acc 75.0 %  lr 0.0013  4,000 images/s"


def test_steps_ask_the_device_for_nothing(session_and_feed, monkeypatch):
    """Were a step to read a value, training on a GPU would wait for it each time."""
    session, feed = session_and_feed
    running = epoch.Epoch(session, feed)

    def refuse(_):
        raise AssertionError("a step read a value from the device")

    monkeypatch.setattr(torch.Tensor, "item", refuse)
    for batch in running:
        running.learn(batch)
    assert running.is_over


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_picture_that_is_drawn_again_is_varied_anew(in_memory):
    """Also in another number of workers, and after a resume between both times."""
    picture = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    settings = TrainSettings(network="mlp", batch_size=2, balance="sample", augment=("rotate:90",))
    dataset = Dataset.from_arrays(*[(np.stack([picture] * 8), np.array([0] * 7 + [1]))] * 2)
    preprocessing = describe_input(settings, dataset)
    spec = describe_network(settings, dataset, preprocessing)
    session = begin(settings, dataset, spec, preprocessing, torch.device("cpu"))
    split = dataset.train
    if not in_memory:
        split = Split("train", split.labels, photos=tuple(split.images))

    def seen(workers=0):
        running = epoch.Epoch(session, Feed(split, preprocessing, workers=workers))
        return [(batch.indices, running._augmented(batch)) for batch in running]

    whole = seen()
    pictures = torch.cat([varied[indices == 7] for indices, varied in whole])
    assert len(pictures) == 4
    assert len({varied.numpy().tobytes() for varied in pictures}) == 4
    session.batch = 2
    for resumed in (seen(), seen(workers=2)):
        for (indices, varied), (there, wanted) in zip(resumed, whole[2:], strict=True):
            assert torch.equal(indices, there)
            assert torch.equal(varied, wanted)


def test_one_cycle_moves_the_optimizer_s_momentum(session_and_feed):
    """Of four steps the second is nearest the top of the rate, where momentum is lowest."""
    session, feed = session_and_feed
    session.settings = session.settings.changed(schedule="one-cycle", epochs=1, cycle_momentum=(0.8, 0.9))
    running, betas = epoch.Epoch(session, feed), []
    for batch in running:
        running.learn(batch)
        betas.append([group["betas"][0] for group in session.optimizer.param_groups])
    assert betas[0] == pytest.approx([0.9, 0.9])
    # A cosine from the top, at 0.3 * 4 - 1 = 0.2, to the last step, at 3.
    assert betas[1] == pytest.approx([0.9 - 0.1 * 0.5 * (1 + np.cos(np.pi * 0.8 / 2.8))] * 2)
    assert betas[3] == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("channels_last", [True, False])
def test_convolutions_see_the_memory_format_that_is_asked_for(pictures, channels_last):
    settings = TrainSettings(
        data=f"folder:{pictures}", network="resnet-small", image_size=28, batch_size=16, channels_last=channels_last
    )
    dataset = load_data(settings)
    preprocessing = describe_input(settings, dataset)
    spec = describe_network(settings, dataset, preprocessing)
    dataset = into_memory(dataset, preprocessing, limit_bytes=10**9)
    session = begin(settings, dataset, spec, preprocessing, torch.device("cpu"))
    first = next(module for module in session.network.modules() if isinstance(module, torch.nn.Conv2d))
    seen = []
    first.register_forward_hook(lambda _module, inputs, output: seen.extend([inputs[0], output]))
    running = epoch.Epoch(session, Feed(dataset.train, preprocessing))
    running.learn(next(iter(running)))
    tensors = [first.weight, *seen]
    assert len(tensors) == 3
    assert tensors[0].shape[1] == 3  # of one channel both formats are the same
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) == channels_last for tensor in tensors)


def test_on_a_gpu_the_most_memory_since_the_epoch_began_is_told(session_and_feed, monkeypatch):
    session, feed = session_and_feed
    session.device, reset = torch.device("cuda", 1), []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {session.device: 2_500_000}.__getitem__)
    running = epoch.Epoch(session, feed)
    assert reset == [session.device]
    assert running.pace().gpu_memory_mb == 2.5
