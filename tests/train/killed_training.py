"""Trains in a process that kills itself after a number of batches: `killed_training.py SETTINGS BATCHES`."""

import json
import os
import signal
import sys
from pathlib import Path

from cutaway.train import TrainSettings, train

settings = json.loads(sys.argv[1])
left = int(sys.argv[2])


def track(items, description, total=None):
    global left
    for item in items:
        if description.startswith("epoch"):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        yield item


train(TrainSettings(**settings | {"out": Path(settings["out"])}), track=track)
