"""The options that every inspection of a bundle has: how far its reading goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from cutaway.cli.own_code import permitted

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored


@dataclass(frozen=True)
class ReadingOptions:
    """What may be read."""

    allow_nan: bool = False
    """Read weights that are NaN or infinite."""
    allow_code: tuple[str, ...] = ()
    """Modules of your own that a network python:MODULE:FACTORY may be imported from."""

    def restore(self, reference: str) -> Restored:
        """The bundle that a person named."""
        from cutaway.checkpoints import restore

        return restore(reference, allow_code=permitted(self.allow_code), allow_nan=self.allow_nan)


Reading = Annotated[ReadingOptions, tyro.conf.OmitArgPrefixes]
