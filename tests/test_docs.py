"""What the documentation names is there."""

import re
from pathlib import Path

import pytest

import cutaway.inspect
from cutaway.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")


def test_the_functions_of_the_table_are_exported():
    last_cells = [line.rstrip("| ").rpartition("|")[2] for line in PAGE.splitlines() if line.startswith("| ")]
    named = [name for cell in last_cells for name in re.findall(r"`(\w+)`", cell)]
    assert len(named) > 12
    exported = {*cutaway.inspect.__all__, "report_on"}
    assert [name for name in named if name not in exported] == []


@pytest.mark.parametrize("page", ["README.md", "docs/inspect.md", "docs/onnx-format.md"])
def test_every_command_is_one(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^cutaway ([a-z][a-z -]*[a-z])", text, re.MULTILINE) + re.findall(
        r"`cutaway ([a-z ]+[a-z])", text
    )
    assert lines
    for line in lines:
        words = line.split()
        known = " ".join(words[:2]) in COMMANDS or words[0] in COMMANDS
        assert known or (any(name.startswith(words[0] + " ") for name in COMMANDS) and len(words) == 1), line
