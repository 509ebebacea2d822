"""Quantisation: int8 numbers for the values and weights of a graph, from the ranges that calibration finds."""
