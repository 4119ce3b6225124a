"""Names to networks; importing this package imports torch."""

from cutaway.networks.registry import build, build_on_meta, names, usual_image_size
from cutaway.networks.spec import NetworkSpec

__all__ = ["NetworkSpec", "build", "build_on_meta", "names", "usual_image_size"]
