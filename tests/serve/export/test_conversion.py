"""A graph is checked before it is a file, and says nothing of the machine that made it."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from cutaway.errors import ExportError
from cutaway.serve.export import conversion
from cutaway.serve.export.conversion import check, convert, strip


def model_of(*nodes, functions=(), domains=("",)):
    """From x, float32 [2, 3], to y of the same shape."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    opsets = [helper.make_opsetid(domain, 20 if domain == "" else 1) for domain in domains]
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def own_function():
    return helper.make_function("own", "Own", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (model_of(helper.make_node("Relu", ["nothing"], ["y"])), "not valid ONNX"),
        # Each node is right, and the shape that they give is not the output's.
        (model_of(helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])), "not valid ONNX"),
        (
            model_of(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), domains=("", "com.microsoft")),
            "com",
        ),
        (model_of(helper.make_node("Relu", ["x"], ["y"]), functions=[own_function()]), "functions"),
    ],
)
def test_what_is_no_valid_standard_graph_is_refused(model, said):
    with pytest.raises(ExportError, match=said):
        check(model)


def test_a_valid_graph_passes():
    check(model_of(helper.make_node("Relu", ["x"], ["y"])))


@pytest.mark.parametrize("largest", [conversion.LARGEST_FILE, 0])
def test_every_conversion_is_checked_also_of_what_is_too_large_for_the_checker(largest, monkeypatch):
    checked = []
    monkeypatch.setattr(conversion, "LARGEST_FILE", largest)
    monkeypatch.setattr(conversion, "check", checked.append)
    model = convert(
        nn.Linear(400, 3).eval(),
        (torch.zeros(2, 400),),
        open_dimensions=({0: "N"},),
        input_names=("x",),
        output_names=("y",),
    )
    (seen,) = checked
    assert [node.op_type for node in seen.graph.node] == [node.op_type for node in model.graph.node]
    assert (seen.ByteSize() < 4000) == (largest == 0)


def test_notes_are_stripped_at_every_depth():
    def noted(message):
        message.doc_string = "/home/user/model.py"
        message.metadata_props.add(key="stack_trace", value="/home/user/model.py, line 3")
        return message

    inner = noted(helper.make_graph([noted(helper.make_node("Relu", ["x"], ["z"]))], "inner", [], []))
    inner.output.append(noted(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3])))
    chosen = noted(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))
    model = noted(model_of(chosen, functions=[noted(own_function())]))
    noted(model.graph)
    noted(model.graph.input[0])
    noted(model.functions[0].node[0])
    model.graph.initializer.append(noted(helper.make_tensor("c", TensorProto.BOOL, [], [True])))
    assert onnx.load_from_string(model.SerializeToString()).SerializeToString().count(b"/home/user") > 10
    strip(model)
    assert b"/home/user" not in model.SerializeToString()
