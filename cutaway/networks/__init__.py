"""Names to networks; importing this package imports torch."""

from cutaway.networks.own import OwnCode
from cutaway.networks.registry import (
    build,
    build_on_meta,
    check_network,
    has_auxiliary_heads,
    names,
    usual_image_size,
)
from cutaway.networks.spec import NetworkSpec

__all__ = [
    "NetworkSpec",
    "OwnCode",
    "build",
    "build_on_meta",
    "check_network",
    "has_auxiliary_heads",
    "names",
    "usual_image_size",
]
