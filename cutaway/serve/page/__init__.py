"""The page: one picture in, its classes and where the network looked out. Made with Gradio from the ONNX file alone."""

from cutaway.serve.page.tabs import Tab, build

__all__ = ["Tab", "build"]
