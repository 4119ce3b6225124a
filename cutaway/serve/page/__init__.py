"""The page: one picture in, its classes and where the network looked out. Made with Gradio from the ONNX file alone."""

from cutaway.serve.page.asking import Asking
from cutaway.serve.page.tabs import Link, Tab, build, build_asking

__all__ = ["Asking", "Link", "Tab", "build", "build_asking"]
