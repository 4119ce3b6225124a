"""Data sets for classification: built in, from folders and from CSV lists; splits, statistics, fingerprints."""

from cutaway.datasets.dataset import SPLITS, Dataset, Split
from cutaway.datasets.passes import into_memory, statistics
from cutaway.datasets.registry import load, names

__all__ = ["SPLITS", "Dataset", "Split", "into_memory", "load", "names", "statistics"]
