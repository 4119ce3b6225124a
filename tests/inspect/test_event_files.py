"""What TensorBoard reads back of what an inspection wrote."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cutaway.inspect.event_files import EventFiles
from cutaway.inspect.histograms import tensor_histogram


def read(directory):
    found = EventAccumulator(str(directory), size_guidance={"images": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    return found


def test_pictures_and_distributions_come_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    values = torch.tensor([0.0, 0.0, 1.0, 2.0, 4.0, float("nan")])
    with EventFiles(tmp_path, step=31) as events:
        events.picture("a/picture", picture)
        events.histograms("weights", [tensor_histogram("conv1.weight", values, bins=4)])
        events.histograms("weights", [tensor_histogram("empty", torch.tensor([float("nan")]))])
    found = read(tmp_path)
    (image,) = found.Images("a/picture")
    assert image.step == 31
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), picture)
    (histogram,) = found.Histograms("weights/conv1/weight")
    assert (histogram.step, histogram.histogram_value.num) == (31, 5)
    assert histogram.histogram_value.sum == pytest.approx(7)
    assert histogram.histogram_value.sum_squares == pytest.approx(21)
    assert histogram.histogram_value.bucket == [2.0, 1.0, 1.0, 1.0]
    assert found.Tags()["histograms"] == ["weights/conv1/weight"]


def test_a_graph_is_drawn_of_a_copy_and_what_cannot_be_traced_is_told(tmp_path):
    class Choosing(nn.Module):
        def forward(self, x):
            raise ValueError("not today")

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    state = torch.get_rng_state()
    with EventFiles(tmp_path, step=1) as events:
        assert events.graph(network, torch.zeros(1, 1, 8, 8)) == ""
        assert "not today" in events.graph(Choosing(), torch.zeros(1, 1, 8, 8))
    assert read(tmp_path).Tags()["graph"] is True
    assert network.training
    assert network[1].num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), state)
