"""The contract between measuring and searching: the latency lookup table (LUT), read, written and compared."""
