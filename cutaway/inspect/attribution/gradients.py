"""Attribution by the plain gradient: saliency, input times gradient, and their mean over noisy copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.result import Attribution, Reduction
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, Subject, gradient_of, prepared

Smoothed = Literal["saliency", "input-x-gradient"]
Averaging = Literal["smoothgrad", "smoothgrad_sq", "vargrad"]


def saliency(
    network: nn.Module, inputs: Tensor, class_index: ClassIndex = -1, *, at_a_time: int = AT_A_TIME
) -> Attribution:
    """The gradient of the class's logit at each pixel (Simonyan et al., arXiv:1312.6034, section 3).

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        at_a_time: The most pictures that go through the network together.

    Returns:
        Gradients with their sign; the heat-map is the largest magnitude over the channels.

    Raises:
        InspectionError: Gradients are impossible here, or there is no such class.
    """
    with prepared(network, inputs, class_index, purpose="Saliency", at_a_time=at_a_time) as subject:
        attributions = torch.cat([_gradients(subject, some, classes) for _, some, classes in subject.parts()])
        return Attribution(
            "saliency", attributions, subject.logits, subject.classes, "largest-magnitude", alone=subject.alone
        )


def input_x_gradient(
    network: nn.Module, inputs: Tensor, class_index: ClassIndex = -1, *, at_a_time: int = AT_A_TIME
) -> Attribution:
    """Each pixel times the gradient there (Shrikumar et al., arXiv:1605.01713).

    For a linear network without biases the attributions sum up to the logit; elsewhere they promise nothing.
    Arguments and errors are those of `saliency`; the heat-map is the sum over the channels.
    """
    with prepared(network, inputs, class_index, purpose="Input times gradient", at_a_time=at_a_time) as subject:
        parts = [some.detach() * _gradients(subject, some, classes) for _, some, classes in subject.parts()]
        return Attribution(
            "input-x-gradient", torch.cat(parts), subject.logits, subject.classes, "sum", alone=subject.alone
        )


def smooth_grad(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    of: Smoothed = "saliency",
    averaging: Averaging = "smoothgrad",
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """The mean attribution over noisy copies of each picture (SmoothGrad; Smilkov et al., arXiv:1706.03825).

    The noise of a picture follows from the seed and its place in the batch alone.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        of: What is averaged.
        averaging: `smoothgrad` is the mean, `smoothgrad_sq` the mean of the squares, `vargrad` the variance.
        samples: Noisy copies of each picture.
        noise: Standard deviation of the Gaussian, as a share of the picture's range from lowest to highest value.
        seed: Of the noise.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: Gradients are impossible here, there is no such class, or an argument is out of range.
    """
    if samples < 1 or not 0 < noise < float("inf"):
        raise InspectionError(
            f"SmoothGrad takes at least one sample and noise above 0, not {samples} and {noise}.",
            hint="The paper takes noise of 0.1 to 0.2 and 10 to 50 samples.",
        )
    with prepared(network, inputs, class_index, purpose="SmoothGrad", at_a_time=at_a_time) as subject:
        found = []
        for index, (picture, chosen) in enumerate(zip(subject.inputs, subject.classes, strict=True)):
            spread = noise * float(picture.max() - picture.min())
            noisy = picture + spread * _noise(picture, samples, picture_seed(seed, index))
            parts = []
            for some in noisy.split(subject.at_a_time):
                some = some.requires_grad_()
                gradient = _gradients(subject, some, chosen.expand(len(some)))
                parts.append(gradient if of == "saliency" else gradient * some.detach())
            found.append(_AVERAGES[averaging](torch.cat(parts)))
        reduction: Reduction = "largest-magnitude" if of == "saliency" or averaging != "smoothgrad" else "sum"
        return Attribution(
            "smooth-grad", torch.stack(found), subject.logits, subject.classes, reduction, alone=subject.alone
        )


def picture_seed(seed: int, index: int) -> int:
    """A seed of its own for each picture, so that its random numbers don't depend on the others beside it."""
    return (seed * 1_000_003 + index * 7919 + 1) % 2**63


def _gradients(subject: Subject, inputs: Tensor, classes: Tensor) -> Tensor:
    return gradient_of(subject.scores(inputs, classes), inputs)


_AVERAGES: dict[Averaging, Callable[[Tensor], Tensor]] = {
    "smoothgrad": lambda samples: samples.mean(0),
    "smoothgrad_sq": lambda samples: samples.square().mean(0),
    "vargrad": lambda samples: samples.var(0, correction=0),
}


def _noise(picture: Tensor, samples: int, seed: int) -> Tensor:
    """Standard normal [samples, C, H, W], the same on every device and for any number of pictures at a time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((samples, *picture.shape), generator=generator, dtype=torch.float32).to(picture)
