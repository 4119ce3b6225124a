"""The ways to compute a heat-map that a file can carry: those that need a layer's maps and the gradient there."""

from __future__ import annotations

from collections.abc import Mapping

from cutaway.errors import ExportError, InspectionError
from cutaway.inspect import class_activation
from cutaway.inspect.class_activation import Method

METHODS: Mapping[str, Method] = {
    name: method for name, method in class_activation.METHODS.items() if method.formula is not None
}
"""Name to method; the formulas are those of `cutaway.inspect`."""


def find_method(name: str) -> Method:
    """The method of that name; `GradCAM`, `grad_cam` and `Grad-CAM` all mean `grad-cam`.

    Raises:
        ExportError: There is none, or it needs more than one forward pass and one gradient.
    """
    hint = f"Known are {', '.join(METHODS)}."
    try:
        found = class_activation.find_method(name)
    except InspectionError as error:
        raise ExportError(f"There is no method {name!r} for heat-maps.", hint=hint) from error
    if found.formula is None:
        raise ExportError(f"{found.title} cannot be computed inside an ONNX file.", hint=hint)
    return found
