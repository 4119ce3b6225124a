"""Seeing inside a network: every function takes any `nn.Module` and leaves it as it was."""

from cutaway.inspect.class_activation import ClassActivation, grad_cam
from cutaway.inspect.layers import LayerRow, LayerTable, LayerTotals, layer_table

__all__ = ["ClassActivation", "LayerRow", "LayerTable", "LayerTotals", "grad_cam", "layer_table"]
