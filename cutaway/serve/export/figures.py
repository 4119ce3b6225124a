"""What is compared between a file and PyTorch, what it is held to, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Thresholds:
    """What an exported file is held to.

    Where float32 itself does not determine the answer so far, `comparison.ROUNDING` times PyTorch's own error takes the
    place of a largest difference. Such a network is not the file's fault: BatchNorm over small variances multiplies
    rounding, and the ReLU of a class activation map leaves the small difference of large terms.

    Attributes:
        probability: Largest allowed difference of any probability.
        logit: Largest allowed difference of any logit, as a share of what pictures change of the logits. It holds
            where probabilities are all but 0 and 1, or all but the same, and would hide a wrong network.
        top1_agreement: Smallest allowed share of pictures with the same top class.
        heatmap_correlation: Smallest allowed correlation of a picture's map with PyTorch's.
        heatmap_difference: Largest allowed difference within a map, as a share of PyTorch's maximum.
        heatmap_share: Smallest allowed share of pictures whose map keeps both. It is not 1, because where an input
            of a ReLU lies within rounding of 0, or two inputs of a max pooling are as good as equal, any two
            engines may choose different sides, and then one picture's map differs by some per cent.
        feature: Largest allowed difference within a picture's feature maps, as a share of their largest value.
    """

    probability: float = 1e-4
    logit: float = 1e-3
    top1_agreement: float = 1.0
    heatmap_correlation: float = 0.999
    heatmap_difference: float = 0.05
    heatmap_share: float = 0.8
    feature: float = 1e-3


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Answers:
    """Of one engine to all pictures, in order.

    Attributes:
        logits: [N, K].
        probabilities: [N, K].
        heatmaps: [N, h, w]; None without.
        features: Name of the output to feature maps [N, ...]; empty without.
        faint: Bool [N], whether a heat-map is said to hold nothing but rounding; None where nothing is said.
    """

    logits: Floats
    probabilities: Floats
    heatmaps: Floats | None = None
    features: Mapping[str, Floats] = field(default_factory=dict)
    faint: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Figures:
    """What was measured.

    A share of comparisons counts those that keep their limit, PyTorch's own error at that very picture allowed for.

    Attributes:
        pictures: How many different ones were taken; fewer than comparisons where few were given.
        comparisons: How many answers of the file were held against PyTorch's, each picture in other sizes and batches.
        batch_sizes: Of the runs.
        picture_sizes: Height and width in pixels of the pictures of each run; empty for the float form.
        probability_difference: Largest difference of any probability.
        probability_share: Share of comparisons whose probabilities keep their limit.
        top1_agreement: Share of comparisons with the same top class, ties within the allowed difference counted as
            the same.
        logit_difference: Largest difference of any logit, as a share of what pictures change of the logits.
        logit_share: Share of comparisons whose logits keep their limit.
        heatmap_correlation: Smallest over the comparisons; None without heat-maps, or where all maps are flat.
        heatmap_difference: Largest difference within a map, as a share of PyTorch's maximum; None without.
        heatmap_share: Share of comparisons whose map keeps its limits; None without.
        heatmap_others: How many maps are other maps than PyTorch's altogether; None without.
        feature_difference: Largest difference within feature maps, as a share of their largest value; None without.
        feature_share: Share of comparisons and outputs whose feature maps keep their limit; None without.
        probability_rounding: Largest error of a probability in PyTorch's own float32, against float64; None where
            the file kept every limit without it and it was not measured.
        logit_rounding: The same of a logit, as a share of what pictures change; None where not measured.
        heatmap_rounding: The same within a map, as a share of its maximum; None where not measured.
        heatmap_determined: Share of comparisons whose map keeps its limits without PyTorch's own error being taken
            into account; None without heat-maps.
        heatmap_wrong_flags: How many maps are called faint that are not, or the other way; None where nothing is said.
        float64_failed: Whether the network was to be asked in float64, and could not run in it.
        scores_in_unit_range: Whether all logits of PyTorch lie between 0 and 1, as those of a network do that ends with
            a softmax or sigmoid of its own.
        encoded_pictures: How many encoded files went the whole way, through the decoder and the classifier on one
            side and through training's own evaluation on the other; 0 where that was not done.
        encoded_probability_difference: Largest difference of any probability there.
        encoded_top1_agreement: Share of them with the same top class, ties counted as the same.
        encoded_share: Share of them whose probabilities keep their limit.
    """

    pictures: int
    comparisons: int
    batch_sizes: tuple[int, ...]
    picture_sizes: tuple[tuple[int, int], ...]
    probability_difference: float
    probability_share: float
    top1_agreement: float
    logit_difference: float
    logit_share: float
    heatmap_correlation: float | None = None
    heatmap_difference: float | None = None
    heatmap_share: float | None = None
    heatmap_others: int | None = None
    feature_difference: float | None = None
    feature_share: float | None = None
    probability_rounding: float | None = None
    logit_rounding: float | None = None
    heatmap_rounding: float | None = None
    heatmap_determined: float | None = None
    heatmap_wrong_flags: int | None = None
    float64_failed: bool = False
    scores_in_unit_range: bool = False
    encoded_pictures: int = 0
    encoded_probability_difference: float | None = None
    encoded_top1_agreement: float | None = None
    encoded_share: float | None = None
