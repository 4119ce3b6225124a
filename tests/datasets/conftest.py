"""Small folders of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    """Tests neither read nor fill the person's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., Path]:
    """make_folder({"cat/1.png": 10, ...}): one small grey picture per name, of that level; None writes junk."""

    def make(files: dict[str, int | None], root: str = "pets") -> Path:
        folder = tmp_path / root
        folder.mkdir(parents=True, exist_ok=True)
        for name, level in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if level is None:
                path.write_bytes(b"\x89PNG\r\n\x1a\njunk")
            else:
                Image.fromarray(np.full((4, 6, 3), level % 256, dtype=np.uint8)).save(path)
        return folder

    return make


@pytest.fixture
def pets() -> dict[str, int]:
    """30 cats and 20 dogs, every picture of another level."""
    cats = {f"cat/{index}.png": index for index in range(30)}
    return cats | {f"dog/{index}.png": 100 + index for index in range(20)}
