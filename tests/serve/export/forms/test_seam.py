"""The network's input is found by what it holds, in any preprocessing."""

import numpy as np
import onnx
import pytest

from cutaway.errors import ExportError
from cutaway.serve.export import export_module
from cutaway.serve.export.forms.regions import parts_of
from cutaway.serve.export.forms.seam import find_seam, watch
from cutaway.serve.metadata import from_properties
from cutaway.serve.onnx_file import properties


def opened(path):
    data = path.read_bytes()
    return onnx.load_from_string(data), from_properties(properties(data))


def test_what_is_found_is_the_normalised_picture_and_no_layer_comes_before_it(exported):
    model, metadata = opened(exported)
    seam = find_seam(model, metadata)
    picture = np.random.default_rng(3).integers(0, 256, (90, 41, 3), dtype=np.uint8)
    found = watch(model, [seam])(picture[None])[seam]
    preprocessing = metadata.preprocessing
    np.testing.assert_allclose(found, preprocessing.normalise(preprocessing.picture(picture)[None]), atol=1e-6)
    parts = parts_of(model.graph, seam)
    layers = [node.op_type for node in parts.forward if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert layers.count("Conv") == 2
    assert len(layers) == 5
    assert not {"Conv", "Gemm"} & {node.op_type for node in (*parts.before, *parts.after)}


def test_the_float_form_takes_it_as_it_is(worked_out, tmp_path):
    from cutaway.preprocessing import Preprocessing

    tiny = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))
    out = tmp_path / "x.onnx"
    export_module(worked_out, tiny, ["a", "b"], out, input_form="float", explain=False)
    assert find_seam(*opened(out)) == "images"


def test_a_file_that_prepares_pictures_otherwise_than_it_says_is_refused(exported):
    model, metadata = opened(exported)
    other = metadata.preprocessing.model_copy(update={"mean": (0.5,)})
    with pytest.raises(ExportError, match="does not compute what its preprocessing says"):
        find_seam(model, metadata.model_copy(update={"preprocessing": other}))
