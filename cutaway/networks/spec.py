"""How a network is described in settings and bundles: a name, allowed arguments, and the shapes at both ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Channels = Annotated[int, Field(ge=1, le=1024)]
Side = Annotated[int, Field(ge=1, le=16384)]


class NetworkSpec(BaseModel):
    """Everything needed to build a network again, with no code in it.

    Attributes:
        name: A name from `cutaway.networks.names()`.
        num_classes: Number of outputs.
        input_shape: Channels, height and width of the input.
        arguments: Keyword arguments, each from the network's allow-list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num_classes: int = Field(ge=1, le=100_000)
    input_shape: tuple[Channels, Side, Side]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
