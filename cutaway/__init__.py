"""Train an image classifier, see inside it, and ship it."""

__version__ = "0.1.0"
