from __future__ import annotations

import numpy as np

from cutaway.inspect.canvas import png
from cutaway.inspect.class_activation.sheets import Sheet, SheetCell, draw_sheet


def test_dollars_in_names_are_no_mathematics() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    rows = [[SheetCell(np.eye(4)), SheetCell(np.zeros((4, 4)), "nothing at $\\frac$")]]
    sheet = Sheet(picture, ["Grad-CAM", "CAM"], ["5 $^$ bill"], rows, "read at block$\\frac$.conv")
    assert png(draw_sheet(sheet)).startswith(b"\x89PNG")
