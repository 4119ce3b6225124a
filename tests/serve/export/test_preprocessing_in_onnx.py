"""The preprocessing inside the graph, run by ONNX Runtime, against PIL: equal to the bit for any picture size."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.tensors import Preprocess
from cutaway.serve.export.conversion import convert

SPECS = {
    "stretch, grey": Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,)),
    "shorter side, bilinear": Preprocessing(
        size=(40, 48), resize="shorter", resize_to=56, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    "shorter side, bicubic, grey to three channels": Preprocessing(
        size=(32, 32),
        resize="shorter",
        resize_to=33,
        interpolation="bicubic",
        color="grey3",
        mean=(0.5,) * 3,
        std=(1,) * 3,
    ),
}


class Pictures(nn.Module):
    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        self.preprocess = Preprocess(spec)

    def forward(self, images):
        return self.preprocess.picture(images), self.preprocess(images)


@pytest.fixture(scope="module", params=SPECS)
def spec_and_session(request):
    spec = SPECS[request.param]
    model = convert(
        Pictures(spec).eval(),
        (torch.zeros(2, 37, 53, 3, dtype=torch.uint8),),
        open_dimensions=({0: "N", 1: "H", 2: "W"},),
        input_names=("images",),
        output_names=("pixels", "inputs"),
    )
    return spec, ort.InferenceSession(model.SerializeToString())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), number=st.integers(1, 3), height=st.integers(1, 300), width=st.integers(1, 300))
def test_the_graph_s_pixels_are_pil_s_to_the_bit(spec_and_session, seed, number, height, width):
    spec, session = spec_and_session
    images = np.random.default_rng(seed).integers(0, 256, (number, height, width, 3), dtype=np.uint8)
    pixels, inputs = session.run(None, {"images": images})
    pil = np.stack([spec.picture(image) for image in images])
    assert np.array_equal(pixels.transpose(0, 2, 3, 1), pil)
    np.testing.assert_allclose(inputs, spec.normalise(pil), atol=1e-6)


def test_a_large_photo_is_pil_s_to_the_bit(spec_and_session):
    spec, session = spec_and_session
    image = np.random.default_rng(0).integers(0, 256, (1201, 1607, 3), dtype=np.uint8)
    pixels, _ = session.run(None, {"images": image[None]})
    assert np.array_equal(pixels[0].transpose(1, 2, 0), spec.picture(image))
