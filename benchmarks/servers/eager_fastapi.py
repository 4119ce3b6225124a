"""The same network in PyTorch, eagerly, behind FastAPI: no export at all.

Run: python eager_fastapi.py WEIGHTS LABELS PORT
"""

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import torch
import torchvision
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision import transforms

_, weights, labels, port = sys.argv
names = json.loads(Path(labels).read_text())
network = torchvision.models.resnet18().eval()
network.load_state_dict(torch.load(weights, weights_only=True))
prepare = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
app = FastAPI()


@app.post("/classify")
def classify(images: Annotated[UploadFile, "one JPEG"]) -> list[dict[str, float | str]]:
    picture = Image.open(io.BytesIO(images.file.read())).convert("RGB")
    with torch.inference_mode():
        probabilities = network(prepare(picture)[None]).softmax(1)[0]
    top = probabilities.topk(5)
    return [
        {"label": names[index], "probability": probability}
        for probability, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
