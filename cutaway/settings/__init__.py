"""Every setting of a training run: flat, validated, and free of torch."""

from cutaway.settings.faults import in_words
from cutaway.settings.group import SettingsGroup
from cutaway.settings.reading import read_yaml, to_yaml
from cutaway.settings.training import FREE_TO_CHANGE, GROUPS, NEVER_TO_CHANGE, TrainSettings, validated

__all__ = [
    "FREE_TO_CHANGE",
    "GROUPS",
    "NEVER_TO_CHANGE",
    "SettingsGroup",
    "TrainSettings",
    "in_words",
    "read_yaml",
    "to_yaml",
    "validated",
]
