"""A sweep by grid: every combination of some settings, a run each, and a table of what they came to.

The same as YAML goes by `cutaway sweep sweep.yaml`; given again, it trains only what is not finished yet.
"""

import argparse
from pathlib import Path

from cutaway.settings.sweep import SweepSettings
from cutaway.train.sweep import sweep
from cutaway.train.sweep.results import gather

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--lr", type=float, nargs="+", default=[0.001, 0.01])
parser.add_argument("--batch-size", type=int, nargs="+", default=[100, 1000])
parser.add_argument("--out", type=Path, default=Path("runs/grid"))
options = parser.parse_args()

settings = SweepSettings(
    out=options.out,
    base={"network": "fashion-cnn-bn", "epochs": options.epochs, "seed": 3},
    grid={"lr": options.lr, "batch_size": options.batch_size},
)

if __name__ == "__main__":
    failed = sweep(settings)
    results = gather(options.out)
    print("the best first, by", results.sorted_by)
    for row in results.rows:
        values = "  ".join(f"{name} {row.settings[name]:<6}" for name in results.varying)
        print(f"{values}  {row.metrics[results.sorted_by]:.3f}")
    print(f"{len(results.rows) - len(failed)} of {len(results.rows)} runs finished")
