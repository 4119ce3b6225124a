"""The preprocessing inside the graph, run by ONNX Runtime, against PIL: equal to the bit for any picture size."""

from functools import lru_cache

import numpy as np
import onnx
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
    "padded": Preprocessing(size=(33, 48), resize="pad", fill=100, mean=(0.5,) * 3, std=(0.25,) * 3),
}


class Pictures(nn.Module):
    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        self.preprocess = Preprocess(spec)

    def forward(self, images):
        pixels = self.preprocess.picture(images)
        return pixels, self.preprocess.normalise(pixels)


@lru_cache
def exported(spec: Preprocessing) -> onnx.ModelProto:
    return convert(
        Pictures(spec).eval(),
        (torch.zeros(2, 37, 53, 3, dtype=torch.uint8),),
        open_dimensions=({0: "N", 1: "H", 2: "W"},),
        input_names=("images",),
        output_names=("pixels", "inputs"),
    )


@pytest.fixture(scope="module", params=SPECS)
def spec_and_session(request):
    spec = SPECS[request.param]
    return spec, ort.InferenceSession(exported(spec).SerializeToString())


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


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (56, 75), (75, 56), (33, 33), (33, 50), (40, 48), (32, 32)])
def test_a_picture_that_has_its_size_already_is_only_cropped(spec_and_session, size):
    spec, session = spec_and_session
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels, _ = session.run(None, {"images": image[None]})
    assert np.array_equal(pixels[0].transpose(1, 2, 0), spec.picture(image))


def test_a_picture_that_has_its_size_already_is_not_resized_at_a_cost():
    """Matrix products in the branch that is not taken are all there are."""
    spec = SPECS["shorter side, bilinear"]
    model = exported(spec)
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    products = {branch.name: sum(node.op_type == "MatMul" for node in branch.g.node) for branch in choice.attribute}
    assert products == {"then_branch": 0, "else_branch": 2}
    assert not any(node.op_type == "MatMul" for node in model.graph.node)


def test_no_warning_when_the_file_is_loaded(spec_and_session, capfd):
    ort.InferenceSession(exported(SPECS["shorter side, bilinear"]).SerializeToString())
    assert capfd.readouterr().err == ""
