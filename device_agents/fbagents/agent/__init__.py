"""The agent protocol as the host speaks it."""
