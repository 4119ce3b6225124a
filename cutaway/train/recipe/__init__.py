"""What a step computes and how far it goes: loss, gradients, optimizer, its groups and its rate."""

from cutaway.train.recipe.assembling import Recipe, assemble
from cutaway.train.recipe.groups import parameter_groups
from cutaway.train.recipe.losses import Criterion, make_criterion
from cutaway.train.recipe.optimizers import make_optimizer, set_momentum
from cutaway.train.recipe.plateau import follow_plateau, plateau_scale
from cutaway.train.recipe.precision import autocast, make_scaler, recall_scaler, remember_scaler
from cutaway.train.recipe.schedule import cycled_momentum, learning_rate

__all__ = [
    "Criterion",
    "Recipe",
    "assemble",
    "autocast",
    "cycled_momentum",
    "follow_plateau",
    "learning_rate",
    "make_criterion",
    "make_optimizer",
    "make_scaler",
    "parameter_groups",
    "plateau_scale",
    "recall_scaler",
    "remember_scaler",
    "set_momentum",
]
