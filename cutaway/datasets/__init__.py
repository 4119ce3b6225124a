"""Data sets for classification: built in, from folders and from CSV lists; splits, statistics, fingerprints."""

from cutaway.datasets.accepting import as_dataset
from cutaway.datasets.dataset import Dataset
from cutaway.datasets.passes import into_memory, statistics
from cutaway.datasets.registry import load, names
from cutaway.datasets.split import SPLITS, Split, joined

__all__ = ["SPLITS", "Dataset", "Split", "as_dataset", "into_memory", "joined", "load", "names", "statistics"]
