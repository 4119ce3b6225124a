"""From a bundle or a plain network to one ONNX file that explains itself and was compared with the network."""

from cutaway.serve.export.again import FileComparison, compare_file, verify_file
from cutaway.serve.export.comparison import compare_heatmaps
from cutaway.serve.export.figures import Figures, Thresholds
from cutaway.serve.export.methods import METHODS
from cutaway.serve.export.pipeline import export, export_module
from cutaway.serve.export.results import ExportResult, Origin
from cutaway.serve.export.temperature import Calibrated, calibrate

__all__ = [
    "METHODS",
    "Calibrated",
    "ExportResult",
    "Figures",
    "FileComparison",
    "Origin",
    "Thresholds",
    "calibrate",
    "compare_file",
    "compare_heatmaps",
    "export",
    "export_module",
    "verify_file",
]
