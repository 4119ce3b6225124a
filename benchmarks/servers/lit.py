"""LitServe over ONNX Runtime, as its documentation writes a server.

Run: python lit.py MODEL LABELS PORT [PEERS]
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

sys.path.extend(sys.argv[4:])
import litserve


class Classify(litserve.LitAPI):
    def setup(self, device: str) -> None:
        _, model, labels, *_ = sys.argv
        self.names = json.loads(Path(labels).read_text())
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.takes = [node.name for node in self.session.get_inputs()]

    def decode_request(self, request):
        picture = Image.open(io.BytesIO(request["images"].file.read())).convert("RGB")
        scale = 256 / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))

    def predict(self, picture):
        feed = {"images": picture[None], "class_index": np.array([-1])}
        (probabilities,) = self.session.run(["probabilities"], {name: feed[name] for name in self.takes})
        return probabilities[0]

    def encode_response(self, probabilities):
        top = np.argsort(-probabilities)[:5]
        return [{"label": self.names[index], "probability": float(probabilities[index])} for index in top]


if __name__ == "__main__":
    server = litserve.LitServer(Classify(api_path="/classify"), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[3]), log_level="warning", generate_client_file=False)
