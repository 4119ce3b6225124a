"""The least that a person writes by hand: FastAPI over ONNX Runtime.

Run: python bare_fastapi.py MODEL LABELS PORT
"""

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

_, model, labels, port = sys.argv
names = json.loads(Path(labels).read_text())
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
takes = [node.name for node in session.get_inputs()]
app = FastAPI()


def resized(picture: Image.Image) -> Image.Image:
    """The shorter side is 256; the graph cuts the middle out."""
    scale = 256 / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)


@app.post("/classify")
def classify(images: Annotated[UploadFile, "one JPEG"]) -> list[dict[str, float | str]]:
    picture = resized(Image.open(io.BytesIO(images.file.read())).convert("RGB"))
    feed = {"images": np.asarray(picture)[None], "class_index": np.array([-1])}
    (probabilities,) = session.run(["probabilities"], {name: feed[name] for name in takes})
    top = np.argsort(-probabilities[0])[:5]
    return [{"label": names[index], "probability": float(probabilities[0, index])} for index in top]


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
