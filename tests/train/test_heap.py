"""What a step frees is there for the next step, and goes back to the system after the last."""

import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

SCRIPT = """
import resource, sys, torch
from contextlib import nullcontext
from cutaway.train.heap import kept_heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

def step():
    for size in (48, 100, 4):
        torch.ones(size * 2**18)  # MB

with kept_heap() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):  # the heap may grow twice before every block has its place
        step()
    before, first = megabytes(), faults()
    for _ in range(10):
        step()
    again = faults() - first
print(again, before - megabytes())
"""


def run(which, environment=None):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, which], capture_output=True, text=True, check=True, env=environment
    )
    return map(int, done.stdout.split())


def test_memory_is_taken_once_and_given_back_at_the_end():
    again, given_back = run("kept")
    assert again < 10 * 152 * 2**20 / resource.getpagesize() / 100  # of each page of each step
    assert given_back > 80


@pytest.mark.slow
def test_a_person_s_own_tuning_stays():
    again, _ = run("kept", {"MALLOC_TOP_PAD_": "0"})
    plain, _ = run("plain", {"MALLOC_TOP_PAD_": "0"})
    assert again == pytest.approx(plain, rel=0.2)
