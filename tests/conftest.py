"""Shared by all tests: one thread a process, so that two of them share two cores instead of fighting for them."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
