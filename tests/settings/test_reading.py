"""Settings files."""

import pytest

from cutaway.errors import SettingsError
from cutaway.settings import read_yaml
from cutaway.settings.sweep import read_sweep


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 0.1\nepochs: 3\nlr: 0.2\n", "'lr' stands twice in the settings file, again in line 3"),
        ("batch-size: 3\nbatch_size: 4\n", "'batch_size' stands twice .* line 2"),
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path, text, said):
    """YAML keeps the last, so that a value that somebody wrote was lost without a word."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_yaml(tmp_path / "a.yaml")


def test_a_sweep_does_not_lose_the_first_of_two_lists(tmp_path):
    (tmp_path / "a.yaml").write_text("grid:\n  lr: [0.1, 0.2]\n  lr: [0.3]\n")
    with pytest.raises(SettingsError, match=r"a\.yaml: 'lr' stands twice .* line 3"):
        read_sweep(tmp_path / "a.yaml")


def test_the_same_name_in_two_parts_is_no_repetition(tmp_path):
    (tmp_path / "a.yaml").write_text("runs:\n  - lr: 0.1\n  - lr: 0.2\nbase: {lr: 3}\n")
    assert read_yaml(tmp_path / "a.yaml")["base"] == {"lr": 3}
