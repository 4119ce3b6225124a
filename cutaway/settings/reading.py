"""Settings files in YAML: read without running anything that they hold, and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cutaway.errors import SettingsError
from cutaway.settings.training import TrainSettings

_LARGEST_YAML = 2**20


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML settings file, read without running anything that it holds, and without its aliases.

    Raises:
        SettingsError: The file is missing, not YAML, too large, or not a mapping of names to values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LARGEST_YAML:
            raise SettingsError(f"The settings file {path} is larger than settings are.")
        values = yaml.load(text, _PlainLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise SettingsError(f"The settings file {path} is not valid YAML{line}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"The settings file {path} is not a mapping.", hint="Write one 'name: value' a line.")
    return {key.replace("-", "_"): value for key, value in values.items()}


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, with which a few lines stand for gigabytes, and names that stand twice, of which one is lost."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Composes one node of the document."""
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "settings have no aliases", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Makes a mapping, each of whose names stands in it once, whether with hyphens or underscores."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value.replace("-", "_") if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                line = key.start_mark.line + 1
                raise SettingsError(
                    f"'{key.value}' stands twice in the settings file, again in line {line}.", hint="Leave one out."
                )
            seen |= {name} if name else set()
        return super().construct_mapping(node, deep)


def to_yaml(settings: TrainSettings) -> str:
    """The settings as the YAML that `read_yaml` reads."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
