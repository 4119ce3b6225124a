"""How much one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutaway.images import Limits

__all__ = ["ServingLimits"]


@dataclass(frozen=True)
class ServingLimits:
    """How much one request may ask for.

    Attributes:
        max_body_bytes: Of a request, whatever it carries.
        max_images: Pictures in one request.
        image: Bytes and pixels of one picture.
        running: Requests that use the network at once.
        waiting: Requests that may wait for their turn beyond those; then 503.
        time_limit: Seconds that a request may use the network, and as many that it may take to arrive and to wait; then
            504, 408 and 503.
    """

    max_body_bytes: int = 64 * 2**20
    max_images: int = 32
    image: Limits = field(default_factory=Limits)
    running: int = 2
    waiting: int = 32
    time_limit: float = 60.0
