"""Gradio alone over ONNX Runtime: the demo that most tutorials end with.

Run: python plain_gradio.py MODEL LABELS PORT
"""

import json
import os
import sys
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
import numpy as np
import onnxruntime
from PIL import Image

_, model, labels, port = sys.argv
names = json.loads(Path(labels).read_text())
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
takes = [node.name for node in session.get_inputs()]


def classify(picture: Image.Image) -> dict[str, float]:
    scale = 256 / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    feed = {"images": pixels[None], "class_index": np.array([-1])}
    (probabilities,) = session.run(["probabilities"], {name: feed[name] for name in takes})
    return {name: float(value) for name, value in zip(names, probabilities[0], strict=True)}


demo = gr.Interface(classify, gr.Image(type="pil"), gr.Label(num_top_classes=5), api_name="classify")
demo.launch(server_name="127.0.0.1", server_port=int(port), quiet=True)
