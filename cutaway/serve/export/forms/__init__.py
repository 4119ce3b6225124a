"""Smaller and faster forms of an exported file, each measured against float32 before it is called done."""

from cutaway.serve.export.forms.calibration import calibration_pictures
from cutaway.serve.export.forms.comparing import Form, FormComparison, compare_forms
from cutaway.serve.export.forms.judging import FormFigures, Limits
from cutaway.serve.export.forms.making import PRECISIONS, FormResult, make_form

__all__ = [
    "PRECISIONS",
    "Form",
    "FormComparison",
    "FormFigures",
    "FormResult",
    "Limits",
    "calibration_pictures",
    "compare_forms",
    "make_form",
]
