"""What torch says of a network that it cannot trace or convert: pages of it, made into one sentence."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from cutaway.errors import ExportError
from cutaway.serve.export.checking import first_line


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps torch from printing whole graphs to stderr where it fails; its exceptions say what went wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def not_exportable(error: Exception, *, explained: bool) -> ExportError:
    """The error for a person.

    Args:
        error: Whatever tracing or converting raised.
        explained: Whether the file was to have a heat-map.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, GuardOnDataDependentSymNode) for cause in causes):
        return ExportError(
            "The network cannot be exported: its forward pass branches on the values of tensors, or takes a number out "
            "of one.",
            hint="Use torch.where in place of if, and neither .item() nor int(), float() or bool() of a tensor.",
        )
    hint = "Without a heat-map it may be: --no-explain." if explained else ""
    return ExportError(f"The network cannot be exported: {first_line(causes[-1])}", hint=hint)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what each was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
