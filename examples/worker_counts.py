"""How many processes should decode pictures? As many as it takes for the network to wait no more.

Whatever their number, the weights come out the same.
"""

import argparse
from pathlib import Path

from PIL import Image

import cutaway
from cutaway.checkpoints import Run
from cutaway.datasets import load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pictures", type=int, default=1500)
parser.add_argument("--size", type=int, default=112, help="side of the files in pixels")
parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--out", type=Path, default=Path("runs/workers"))
options = parser.parse_args()

sample, folder = load("fashion-mnist-sample"), options.out / "pictures"
for index in range(options.pictures):
    path = folder / sample.classes[sample.train.labels[index]].replace("/", " or ") / f"{index}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.train.image(index)[..., 0]).resize((options.size, options.size)).save(path)

weights = set()
for workers in options.workers:
    settings = cutaway.TrainSettings(
        data=f"folder:{folder}",
        image_size=32,
        memory_limit=0,  # otherwise so small a folder is decoded once and kept
        workers=workers,
        epochs=1,
        batch_size=64,
        out=options.out / f"{workers}-workers",
    )
    trained = cutaway.train(settings)
    weights.add(trained.last.manifest.files["model.safetensors"].digest)
    epoch = next(entry for entry in Run(trained.run).journal() if entry["kind"] == "epoch")
    print(
        f"{workers} workers: {epoch['images_per_second']:6,.0f} images/s, "
        f"waited for data {epoch['wait_seconds'] / epoch['seconds']:4.0%} of the time"
    )
print(f"different weights after all of these: {len(weights)}")
