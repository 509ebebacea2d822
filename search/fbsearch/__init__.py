"""Decide: a supernet, costs from a latency table, and the search for the best network under them."""
