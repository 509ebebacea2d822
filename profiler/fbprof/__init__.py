"""Measure: operators to model files, model files to samples, samples to a latency table."""
