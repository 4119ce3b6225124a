"""The network's own answers by PyTorch, which an exported file is held against."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.errors import ExportError, InspectionError
from cutaway.inspect.class_activation import class_activation_maps
from cutaway.networks.target_layers import TargetLayer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track
from cutaway.serve.export.features import FeatureLayer, noting
from cutaway.serve.export.figures import Figures, Thresholds
from cutaway.serve.export.generated import generated_pictures
from cutaway.serve.export.results import InputForm
from cutaway.serve.export.steadiness import unsteadiness
from cutaway.serve.export.verdict import DisagreementError
from cutaway.serve.export.verification import NetworkAnswer, Reference, verify
from cutaway.serve.sessions import Provider


@dataclass(frozen=True)
class Held:
    """What a file is held against: a network, and what of it the file gives.

    Attributes:
        network: In evaluation mode, on the CPU.
        preprocessing: Of the network.
        target: Where the heat-map is read; None without one.
        method: Name of the way in which it is computed.
        features: Whose outputs the file gives too.
        input_form: Of the file.
        temperature: What the file divides logits by before the softmax; None where it does not.
    """

    network: nn.Module
    preprocessing: Preprocessing
    target: TargetLayer | None
    method: str
    features: tuple[FeatureLayer, ...] = ()
    input_form: InputForm = "pixels"
    temperature: float | None = None

    @property
    def reference(self) -> Reference:
        """The network's own answer."""
        return reference_of(self.network, self.target, self.method, self.features)

    def verify(
        self, path: Path, pictures: Sequence[Pixels], thresholds: Thresholds, provider: Provider, track: Track
    ) -> Figures:
        """`verification.verify` with all that an export checks; its arguments and errors."""
        try:
            return verify(
                path,
                self.reference,
                self.preprocessing,
                pictures,
                exact=exact_reference_of(self.network, self.target, self.method, self.features),
                network=self.network,
                input_form=self.input_form,
                temperature=self.temperature or 1.0,
                thresholds=thresholds,
                provider=provider,
                track=track,
            )
        except DisagreementError as doubt:
            seen = np.stack([self.preprocessing.picture(one) for one in generated_pictures(self.preprocessing)])
            why = unsteadiness(self.network, torch.from_numpy(self.preprocessing.normalise(seen)))
            if why is None:
                raise
            raise DisagreementError(why.message, hint=why.hint, figures=doubt.figures) from doubt


def reference_of(
    network: nn.Module, target: TargetLayer | None, method: str, layers: Sequence[FeatureLayer] = ()
) -> Reference:
    """The network's own answer, by PyTorch.

    Args:
        network: In evaluation mode.
        target: Where the heat-map is read; None without one.
        method: Name of the way in which it is computed.
        layers: Whose outputs are wanted too.
    """

    def plain(inputs: Tensor, class_index: Tensor) -> NetworkAnswer:
        with torch.no_grad(), noting(network, layers) as features:
            logits = network(inputs)
        return NetworkAnswer(logits, features={layer.output: features[layer.name] for layer in layers})

    def explained(inputs: Tensor, class_index: Tensor) -> NetworkAnswer:
        try:
            with noting(network, layers) as features:
                activation = class_activation_maps(network, inputs, method, target, class_index)
        except InspectionError as error:
            raise ExportError(error.message, hint=error.hint) from error
        return NetworkAnswer(
            activation.logits, activation.maps, {layer.output: features[layer.name] for layer in layers}
        )

    return plain if target is None else explained


def exact_reference_of(
    network: nn.Module, target: TargetLayer | None, method: str, layers: Sequence[FeatureLayer] = ()
) -> Reference:
    """The same in float64, by a copy of the network that is made when it is first asked."""
    exact: list[Reference] = []

    def answer(inputs: Tensor, class_index: Tensor) -> NetworkAnswer:
        if not exact:
            exact.append(reference_of(copy.deepcopy(network).double(), target, method, layers))
        return exact[0](inputs.double(), class_index)

    return answer
