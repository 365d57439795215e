"""Memory that was freed is had again without asking the operating system."""

import ctypes
import subprocess
import sys

import pytest

#: How many pages a process touches for the first time while it takes and frees seven megabytes a hundred times.
PAGES = """
import resource
{before}
sizes = [1 << 20, 2 << 20, 4 << 20]
def use():
    several = [bytearray(size) for size in sizes]
    for one in several:
        one[:: 4096] = bytes(len(one) // 4096)
use()
first = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - first)
"""


def pages(before: str = "") -> int:
    done = subprocess.run(
        [sys.executable, "-c", PAGES.format(before=before)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library here is not glibc")
def test_freed_memory_is_had_again_without_the_operating_system() -> None:
    kept = pages("from tracecore.freed_memory import keep_freed_memory; keep_freed_memory()")
    assert kept < 100 < pages()
