"""Settings of the whole process that a search is faster with. The command makes them; no library code does."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's names (malloc.h): free bytes above which a heap shrinks, bytes from which a block is mapped, most heaps."""
KEPT_BYTES, MAPPED_BYTES = 64 << 20, 4 << 20


def before_torch() -> None:
    """Set what torch reads once, when it is imported or makes its first tensor."""
    # Large tensors lie on huge pages, where Linux lends them to those who ask. A search makes and drops large tensors
    # in every step, and of 4 KiB each the pages would take a quarter of its time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Threads that spin while they wait make two busy programs on one machine 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def before_search(one_path: bool, masked: bool) -> None:
    """Set what a search on a CPU needs: of one path that differs from step to step, of networks with masks."""
    if one_path:
        map_large_blocks()
    if masked:
        # Hardly two networks have the same shapes throughout: oneDNN's 1024 kernels take 50 MB more, and no less time.
        # It reads the variable at a process's first convolution.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")


def map_large_blocks() -> None:
    """Let this process map large tensors one by one, and take all others from one heap (glibc; nothing elsewhere).

    Networks that differ from step to step leave gaps of all sizes in the heap, into which no aligned block of the same
    size fits again, and the thread of the backward pass has a heap of its own: an eighth of a search's memory, and a
    fifth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_ARENA_MAX, 1)
