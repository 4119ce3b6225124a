"""`cutaway lr-find`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cutaway.cli.arguments import Own, names_option, parse_settings_and
from cutaway.cli.outputs import Kind, require_file
from cutaway.cli.own_code import permitted
from cutaway.cli.terminal import bars, say, say_json
from cutaway.settings.saving import SavingSettings
from cutaway.settings.watching import WatchingSettings

OWN = {
    "allow_code": Own(tuple[str, ...], (), "Modules that a --network python:MODULE:FACTORY may be imported from."),
    "to": Own(Path, Path("lr-find.png"), "File for the drawing of the curve; by default in the current directory."),
    "lowest": Own(float, 1e-6, "The first learning rate to try."),
    "highest": Own(float, 10.0, "The last one, unless the loss diverges before."),
    "steps": Own(int, 100, "Steps from the lowest to the highest."),
    "json": Own(bool, False, "Print JSON."),
}


def run_lr_find(arguments: Sequence[str]) -> None:
    """Tries learning rates on a network that is thrown away, and proposes one."""
    purpose = (
        "Find a learning rate for a training with these settings; no run is written, and one at --out is left alone."
    )
    settings, own = parse_settings_and(OWN, "lr-find", arguments, purpose, without=(SavingSettings, WatchingSettings))
    require_file(own["to"], Kind.PNG)
    from cutaway.train.lr_drawing import lr_curve_png
    from cutaway.train.lr_finding import lr_find

    curve = lr_find(
        settings,
        allow_code=permitted(own["allow_code"]),
        lowest=own["lowest"],
        highest=own["highest"],
        num_steps=own["steps"],
        track=bars,
    )
    title = f"{settings.network}, {settings.optimizer}, batches of {settings.batch_size * settings.accumulate}"
    own["to"].parent.mkdir(parents=True, exist_ok=True)
    own["to"].write_bytes(lr_curve_png(curve, title))
    if own["json"]:
        say_json(
            {
                "proposed": curve.proposed,
                "steepest": curve.steepest,
                "tenth_of_minimum": curve.tenth,
                "diverged": curve.diverged,
                "curve": [
                    {"lr": lr, "loss": loss, "smoothed": smoothed}
                    for lr, loss, smoothed in zip(curve.rates, curve.losses, curve.smoothed, strict=True)
                ],
                "drawing": str(own["to"]),
            }
        )
        return
    say(f"proposed --lr {curve.proposed:.2g}, where the loss falls fastest")
    say(f"careful  --lr {curve.tenth:.2g}, a tenth of where the loss is lowest")
    unused = "; no run is written, so --out is not used" if names_option(arguments, "--out") else ""
    say(f"drawn in {own['to']}{unused}")
