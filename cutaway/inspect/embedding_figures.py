"""The map of a split's pictures by their features."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cutaway.inspect.canvas import SOFT, fonts, legible, new_figure, shortened
from cutaway.inspect.classwise import ClassScores
from cutaway.inspect.embedding import Embedding, Features

# Ten colours that can be told apart, also by the colour-blind (Petroff, arXiv:2107.02270).
_COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
_REST = "#dfe2e6"
_NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_LONGEST_NAME = 22
_FEW = 300


def draw_embedding(embedding: Embedding, features: Features, scores: ClassScores) -> Figure:
    """Each picture as a point in the colour of its true class, mistakes as crosses.

    Of more than ten classes, those of the largest confusions have colours and the others are grey.
    """
    labels = features.answers.labels.numpy()[embedding.indices]
    is_right = features.answers.predictions.numpy()[embedding.indices] == labels
    present = np.unique(labels)
    named = [index for index in scores.most_confused(len(_COLORS)) if index in present]
    figure = new_figure(9.2, 7.2)
    axes = figure.add_subplot()
    grey = ~np.isin(labels, named)
    across, up = embedding.points.T
    axes.scatter(across[grey], up[grey], s=9, color=_REST, linewidths=0, zorder=1)
    # Few points, or coloured ones among many grey ones, must be found.
    size = 34 if grey.any() or len(labels) < _FEW else 13
    legend = []
    for color, index in zip(_COLORS, named, strict=False):
        own = labels == index
        axes.scatter(
            across[own & is_right], up[own & is_right], s=size, color=color, alpha=0.75, linewidths=0, zorder=2
        )
        wrong = own & ~is_right
        axes.scatter(across[wrong], up[wrong], s=2 * size, color=color, marker="x", linewidths=1.3, zorder=3)
        name = shortened(legible(scores.classes[index], f"class {index}"), _LONGEST_NAME)
        # The name last: one written from the right would draw the numbers to its left.
        text = f"{int(own.sum()):,}, {int(wrong.sum()):,} wrong: {name}"
        legend.append(Line2D([], [], color=color, marker="o", linestyle="", label=text))
    if grey.any():
        legend.append(Line2D([], [], color=_REST, marker="o", linestyle="", label=f"{int(grey.sum()):,} of others"))
    box = figure.legend(
        title="truth",
        handles=legend,
        loc="outside right upper",
        frameon=False,
        prop={"family": list(fonts()), "size": 8},
    )
    for entry in box.get_texts():
        entry.set_parse_math(False)
    axes.set_title(_title(embedding, len(named), len(scores.classes)), fontsize=9, loc="left")
    if embedding.explained is None:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        first, second = (
            f"principal component {number}: {share:.1%} of the variance"
            for number, share in enumerate(embedding.explained, start=1)
        )
        axes.set_xlabel(first, fontsize=8)
        axes.set_ylabel(second, fontsize=8)
        axes.tick_params(labelsize=7, colors=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _title(embedding: Embedding, num_named: int, num_classes: int) -> str:
    shown, total = len(embedding.indices), embedding.num_samples
    part = f"{total:,} pictures" if shown == total else f"{shown:,} of {total:,} pictures"
    colors = "" if num_named == num_classes else f"in colour the {num_named} classes that are confused most\n"
    plane = "" if embedding.method == "pca" else "; only who is next to whom means anything"
    return (
        f"{_NAMES[embedding.method]} of what {embedding.layer} takes: {part}, crosses are mistakes\n"
        f"{colors}trustworthiness {embedding.trustworthiness:.2f} of 1{plane}"
    )
