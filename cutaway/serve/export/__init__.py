"""From a bundle or a plain network to one ONNX file that explains itself and was compared with the network."""

from cutaway.serve.export.methods import METHODS
from cutaway.serve.export.pipeline import ExportResult, Origin, export, export_module
from cutaway.serve.export.verification import Figures, Thresholds, compare_heatmaps

__all__ = [
    "METHODS",
    "ExportResult",
    "Figures",
    "Origin",
    "Thresholds",
    "compare_heatmaps",
    "export",
    "export_module",
]
