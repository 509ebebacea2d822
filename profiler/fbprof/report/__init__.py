"""A table and its measurement as a page, a plot, a summary."""
