"""Seeing inside a network: every function takes any `nn.Module` and leaves it as it was."""

from cutaway.inspect.class_activation import ClassActivation, grad_cam

__all__ = ["ClassActivation", "grad_cam"]
