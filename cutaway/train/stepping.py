"""One step of the optimizer: forward and backward over the batch in micro-batches, then the update."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cutaway.errors import NetworkError
from cutaway.evaluation import auxiliary_logits_of, logits_of
from cutaway.train.recipe import autocast
from cutaway.train.session import Session


def step(
    session: Session, inputs: Tensor, targets: Tensor, lr: float, *, before_update: Callable[[], None] = lambda: None
) -> Tensor:
    """One step of the optimizer over a batch, which goes through the network `batch_size` pictures at a time.

    The gradients are those of the mean over the whole batch, however it is cut. What a network computes over a batch,
    such as batch norm's statistics, it computes over each micro-batch by itself.

    Args:
        session: Changed in place. While this runs, its state is not that of a whole number of steps.
        inputs: float32 [B, C, h, w], B up to `batch_size * accumulate`.
        targets: int64 [B], or float32 [B, K] where labels are mixed.
        lr: The learning rate, of which each parameter group takes its `lr_scale`.
        before_update: Called when the gradients are there, before weights or the optimizer's state change.

    Returns:
        The batch's mean loss, without penalties, detached.
    """
    settings, recipe = session.settings, session.recipe
    session.sound = False
    if settings.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    for group in session.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    session.optimizer.zero_grad()
    loss = inputs.new_zeros(())
    cut = zip(torch.split(inputs, settings.batch_size), torch.split(targets, settings.batch_size), strict=True)
    for some, wanted in cut:
        with autocast(settings, session.device):
            output = recipe.forward(some)
            logits = logits_of(output)
            if logits.shape[1] != len(session.classes):
                raise NetworkError(
                    f"The network gives {logits.shape[1]} scores for {len(session.classes)} classes.",
                    hint=f"Give its last layer {len(session.classes)} outputs.",
                )
            part = recipe.criterion(logits, wanted)
            for auxiliary in auxiliary_logits_of(output):
                part = part + settings.auxiliary_weight * recipe.criterion(auxiliary, wanted)
        if len(some) < len(inputs):
            part = part * (len(some) / len(inputs))
        recipe.backward(part)
        loss += part.detach()
        session.correct += (logits.detach().argmax(1) == _labels(wanted)).sum()
    before_update()
    recipe.update(session.optimizer, session.step + 1)
    session.loss_sum += loss.to(session.loss_sum.dtype) * len(inputs)
    session.samples += len(inputs)
    session.step += 1
    session.batch += 1
    session.sound = True
    return loss


def _labels(targets: Tensor) -> Tensor:
    """The label of each sample, int64 [B]; of mixed ones, that with the largest share."""
    return targets if targets.dim() == 1 else targets.argmax(1)
