"""8-bit integers: a forward pass quantised by ONNX Runtime's own tools, with float32 at its inputs and outputs.

The ranges of activations are the smallest and largest values over the calibration pictures; percentiles and entropy
came out the same within the noise, and cost more. Weights have one scale per channel and 7 bits, because without VNNI
an x86 processor adds products of 8 x 8 bits in 16 and cuts off what does not fit: the same file would be right on one
machine and wrong on another.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from cutaway.errors import ExportError

Batch = Mapping[str, npt.NDArray[Any]]

# Layers, and what lies between them, so that a chain of them stays in integers. Not what is small beside a layer and
# loses much: the softmax of attention, sigmoids, normalisation.
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_BETWEEN = {"Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat"} | {
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
}

# Of the range of each activation that are kept, so that rounding in the last bits, which differs from one processor to
# another, does not reach the file.
_RANGE_BITS = 10


def quantised(forward: ModelProto, batches: Iterable[Batch]) -> tuple[ModelProto, dict[str, str]]:
    """Weights and activations as integers with fixed scales, in the QDQ format.

    Args:
        forward: Of `forward_pass`.
        batches: Its inputs for the calibration pictures, at least one.

    Returns:
        The forward pass, and for each quantised weight the tensor that holds it as float32.

    Raises:
        ExportError: The network has no layer that could be quantised.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        create_calibrator,
        quantize_static,
        save_tensors_data,
    )

    operators = sorted(_LAYERS | _BETWEEN)
    with _workshop(forward) as folder:
        prepared = folder / "prepared.onnx"
        calibrator = create_calibrator(prepared, operators, augmented_model_path=str(folder / "augmented.onnx"))
        for batch in batches:
            calibrator.collect_data(_Once(batch))
        ranges = calibrator.compute_data()
        for value in ranges.values():
            value.lowest, value.highest = _coarse(value.lowest), _coarse(value.highest)
        read_elsewhere = {value.name for value in forward.graph.output}
        save_tensors_data(ranges, folder / "ranges.json")
        quantize_static(
            prepared,
            folder / "quantised.onnx",
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=folder / "ranges.json",
            extra_options={
                # Otherwise a ReLU is left to the rounding that follows it, and lost where `_exact_logits` takes it out.
                "QDQKeepRemovableActivations": True,
                # Otherwise what a ReLU cuts off is cut off before it too, also for others who read that tensor, such as
                # feature maps and heat-maps.
                "TensorQuantOverrides": {
                    name: [{"rmin": value.lowest, "rmax": value.highest}]
                    for name, value in ranges.items()
                    if name in read_elsewhere
                },
            },
        )
        model = onnx.load(folder / "quantised.onnx")
    _exact_logits(model)
    return model, _widened(forward, model)


def quantised_dynamically(forward: ModelProto) -> tuple[ModelProto, dict[str, str]]:
    """Weights as integers; the scale of each activation is found anew at every run. It needs no calibration.

    That scale is one for the whole batch, so the answer to a picture depends a little on those beside it.

    Args:
        forward: Of `forward_pass`.

    Returns:
        As of `quantised`.

    Raises:
        ExportError: The network has no layer that could be quantised.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _workshop(forward) as folder:
        # Unsigned, because ONNX Runtime has no convolution of unsigned pictures with signed weights on every processor.
        quantize_dynamic(
            folder / "prepared.onnx", folder / "quantised.onnx", ["Conv", "MatMul"], weight_type=QuantType.QUInt8
        )
        model = onnx.load(folder / "quantised.onnx")
    return model, _widened(forward, model)


class _Once:
    """One batch, in the way that ONNX Runtime's calibrators ask for it."""

    def __init__(self, batch: Batch) -> None:
        self._left = [batch]

    def get_next(self) -> Batch | None:
        return self._left.pop() if self._left else None


@contextmanager
def _workshop(forward: ModelProto) -> Iterator[Path]:
    """A private folder with `prepared.onnx` in it: BatchNorm folded, shapes known. The tools want files, and talk."""
    from onnxruntime.quantization import quant_pre_process

    if not _LAYERS.intersection(node.op_type for node in forward.graph.node):
        raise ExportError(
            "The network has no convolution and no linear layer, so nothing of it can be quantised.",
            hint="Export it with --precision fp32.",
        )
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    with tempfile.TemporaryDirectory(prefix="cutaway-quantising-") as name, redirect_stdout(io.StringIO()):
        folder = Path(name)
        logging.disable(logging.WARNING)
        try:
            onnx.save(forward, folder / "forward.onnx")
            quant_pre_process(folder / "forward.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
            yield folder
        finally:
            logging.disable(disabled)
            # A warning of a root logger without handlers would give it one for good.
            logging.root.handlers[:] = handlers


def _coarse(bound: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The bound of a range, rounded to `_RANGE_BITS` bits."""
    mantissa, exponent = np.frexp(np.float64(bound))
    return np.asarray(np.ldexp(np.round(mantissa * 2**_RANGE_BITS) / 2**_RANGE_BITS, exponent), np.float32)


def _exact_logits(model: ModelProto) -> None:
    """Leaves the logits as the last layer gives them: 256 steps over their range would make ties of near classes."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    ahead = ["logits"]
    while ahead:
        node = made.get(ahead.pop())
        if node is None or node.op_type in _LAYERS:
            continue
        rounding = made.get(node.input[0])
        if node.op_type != "DequantizeLinear" or rounding is None or rounding.op_type != "QuantizeLinear":
            ahead.extend(node.input)
            continue
        exact, rounded = rounding.input[0], node.output[0]
        graph.node.remove(node)
        graph.node.remove(rounding)
        # An output keeps its name; what was rounded to it takes that.
        kept, gone = (rounded, exact) if rounded in outputs else (exact, rounded)
        for other in graph.node:
            for names in (other.input, other.output):
                names[:] = [kept if name == gone else name for name in names]
        made = {name: other for other in graph.node for name in other.output}
        ahead.append(kept)


def _widened(forward: ModelProto, model: ModelProto) -> dict[str, str]:
    """Finds the tensors that hold the quantised weights as float32, and makes them where they are missing.

    The tools name what they make of a weight by its name.
    """
    for entry in list(model.opset_import):  # those of ONNX Runtime's own operators, none of which are used
        if entry.domain not in ("", "ai.onnx"):
            model.opset_import.remove(entry)
    del model.metadata_props[:]
    made = {name for node in model.graph.node for name in node.output}
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    widened = {}
    for weight in forward.graph.initializer:
        name = f"{weight.name}_DequantizeLinear_Output"
        if name in made:
            widened[weight.name] = name
        elif f"{weight.name}_quantized" in held and weight.name not in made | held.keys():
            nodes = list(_widening(weight, held))
            model.graph.node.extend(nodes)
            widened[weight.name] = nodes[-1].output[0]
    return widened


def _widening(weight: TensorProto, held: Mapping[str, TensorProto]) -> Iterator[NodeProto]:
    """The nodes from a dynamically quantised weight to float32; linear layers have theirs transposed by the tools."""
    inputs = [f"{weight.name}{end}" for end in ("_quantized", "_scale", "_zero_point")]
    name = f"{weight.name}.float"
    yield helper.make_node("DequantizeLinear", inputs, [name], name)
    if list(held[inputs[0]].dims) != list(weight.dims):
        yield helper.make_node("Transpose", [name], [f"{name}.T"], f"{name}.T", perm=[1, 0])
