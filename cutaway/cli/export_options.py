"""What `cutaway export` can be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from cutaway.cli.export_sources import ForeignOptions


@dataclass(frozen=True)
class ExportOptions:
    """Export a network to one ONNX file with its preprocessing and its heat-map, verified against PyTorch."""

    reference: tyro.conf.Positional[str | None] = None
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory; or none, with --network; or, with --web,
    a file that was exported before."""
    foreign: tyro.conf.OmitArgPrefixes[ForeignOptions] = field(default_factory=ForeignOptions)
    out: Path | None = None
    """The file; by default export/model.onnx in the run, or NETWORK.onnx."""
    explain: bool = True
    """With the heat-map output, where the network allows, or without it."""
    target_layer: str | None = None
    """Layer that the heat-map is read at; found by default."""
    method: str = "grad-cam"
    """How the heat-map is computed: grad-cam, grad-cam++, hirescam, layercam, xgrad-cam or grad-cam-elementwise."""
    layers: list[str] | None = None
    """Layers whose feature maps the file gives too, as outputs features.LAYER: a b, or a,b."""
    opset: int = 20
    """Version of ONNX's operators, 18 to 23."""
    input: Literal["pixels", "float"] = "pixels"
    """pixels takes decoded uint8 pictures of any size; float takes normalised float32 [N, C, H, W]."""
    calibrate: bool = False
    """Divide logits by a temperature fitted on the validation split, so that probabilities are as sure as right."""
    precision: Literal["fp32", "fp16", "bf16", "int8", "int8-dynamic"] = "fp32"
    """What the network is computed in. Other forms than fp32 are measured on the validation split beside it."""
    calibration_pictures: int = 256
    """Training pictures that the ranges of int8 are measured on."""
    max_accuracy_drop: float = 0.01
    """Other forms than fp32 that lose more accuracy than this are refused; 0.01 is one point."""
    compare: bool = False
    """Only measure all forms of --precision and print a table; no file is written."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where other forms than fp32 are run to measure them."""
    data: str | None = None
    """Pictures in place of the run's own data, of the same classes; for a network without a bundle, of any."""
    verify_data: tuple[str, ...] = ()
    """Files, folders and patterns of pictures to verify with instead; they need no classes."""
    examples: int = 0
    """Pictures of the test split to put beside the file with their labels, for the page; this publishes them."""
    web: Path | None = None
    """Folder for a page that needs no server: the file classifies and explains in the visitor's browser."""
    web_runtime: Path | None = None
    """Unpacked npm package onnxruntime-web, or its dist folder, for --web; by default npm fetches it."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""
    allow_code: tuple[str, ...] = ()
    """Modules of your own that a network python:MODULE:FACTORY may be imported from."""
    json: bool = False
    """Print what was measured as JSON."""
