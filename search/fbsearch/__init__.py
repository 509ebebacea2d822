"""Decide: a supernet, costs from a latency table, and the search for the best network under them."""

import os

# torch reads this once, before its first tensor: large tensors on huge pages, where Linux lends them to those who ask.
# A search makes and drops large tensors in every step, and of 4 KiB each the pages would take a quarter of its time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
