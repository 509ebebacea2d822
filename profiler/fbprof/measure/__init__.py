"""Measuring: one run on one device, and many side by side."""
