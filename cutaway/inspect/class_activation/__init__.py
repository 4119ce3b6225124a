"""Class activation maps: which parts of a picture speak for a class."""

from cutaway.inspect.class_activation.explaining import class_activation_maps, grad_cam
from cutaway.inspect.class_activation.methods import METHODS, Method, find_method
from cutaway.inspect.class_activation.results import ClassActivation, no_evidence, speak_for_something
from cutaway.inspect.class_activation.smoothing import Smoothing

__all__ = [
    "METHODS",
    "ClassActivation",
    "Method",
    "Smoothing",
    "class_activation_maps",
    "find_method",
    "grad_cam",
    "no_evidence",
    "speak_for_something",
]
