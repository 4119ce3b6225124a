"""From the bytes of an exported file to the bytes of a smaller form of it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, TensorProto

from cutaway.errors import CutawayError, ExportError
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.export.checking import first_line
from cutaway.serve.export.conversion import check, serialise, strip
from cutaway.serve.export.forms.calibration import calibration_batches
from cutaway.serve.export.forms.half import in_half_precision
from cutaway.serve.export.forms.quantisation import quantised, quantised_dynamically
from cutaway.serve.export.forms.regions import forward_pass, put_back
from cutaway.serve.export.forms.seam import find_seam
from cutaway.serve.metadata import Metadata, Precision, Verification, from_properties
from cutaway.serve.onnx_file import properties


def shrunk(
    data: bytes, precision: Precision, *, calibration: Sequence[Pixels] = (), verification: Verification
) -> tuple[bytes, Metadata]:
    """Makes one form.

    Args:
        data: A file that `cutaway export` made, in float32.
        precision: The form.
        calibration: Pictures for int8, uint8 [H, W, 1 or 3] each.
        verification: What the new file is going to be held to.

    Returns:
        The new file's bytes, the same for the same arguments, and its metadata.

    Raises:
        ExportError: There is no such form of this network.
    """
    model, metadata = onnx.load_from_string(data), from_properties(properties(data))
    if metadata.precision != "fp32":
        raise ExportError(f"The file is {metadata.precision} already.", hint="Begin with one in fp32.")
    if metadata.external_data is not None:
        raise ExportError("Of a network above 2 GB there are no smaller forms yet.", hint="Export it in fp32.")
    seam = find_seam(model, metadata)
    forward = forward_pass(model, seam, metadata.preprocessing.input_shape)
    try:
        smaller, widened = _smaller(forward, precision, model, metadata, calibration)
    except CutawayError:
        raise
    except Exception as error:  # the tools raise what they like for a graph that they don't know
        raise ExportError(
            f"The network cannot be brought to {precision}: {first_line(error)}", hint="Choose another --precision."
        ) from error
    result = put_back(model, seam, smaller, widened)
    strip(result)
    check(result)
    metadata = metadata.model_copy(
        update={
            "precision": precision,
            "calibration": f"{len(calibration)} training pictures" if precision == "int8" else None,
            "verification": verification,
        }
    )
    return serialise(result, metadata, precision).data, metadata


def _smaller(
    forward: ModelProto, precision: Precision, model: ModelProto, metadata: Metadata, calibration: Sequence[Pixels]
) -> tuple[ModelProto, dict[str, str]]:
    if precision == "fp32":
        return forward, {}
    if precision == "int8":
        return quantised(forward, calibration_batches(model, metadata, forward, calibration))
    if precision == "int8-dynamic":
        return quantised_dynamically(forward)
    return in_half_precision(forward, TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16)
