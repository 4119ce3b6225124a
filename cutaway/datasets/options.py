"""What a person may ask of a data set beside its name."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutaway.datasets.duplicates import OnDuplicates
from cutaway.datasets.splitting import Splitting


@dataclass(frozen=True)
class Options:
    """How a data set is loaded, the same for every kind.

    Attributes:
        splitting: Which samples go where.
        duplicates: What is done about pictures that stand in more than one split.
        skip_unreadable: Go on without the files that cannot be decoded, instead of refusing.
    """

    splitting: Splitting = field(default_factory=Splitting)
    duplicates: OnDuplicates = "ignore"
    skip_unreadable: bool = False
