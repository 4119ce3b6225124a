"""The per-layer table, and the memory that training takes."""

from cutaway.inspect.layers.folding import fold
from cutaway.inspect.layers.rows import LayerRow, LayerTable, LayerTotals, Shape
from cutaway.inspect.layers.table import layer_table
from cutaway.inspect.layers.training_memory import TrainingMemory, training_memory

__all__ = [
    "LayerRow",
    "LayerTable",
    "LayerTotals",
    "Shape",
    "TrainingMemory",
    "fold",
    "layer_table",
    "training_memory",
]
