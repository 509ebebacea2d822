"""A table held against measured networks."""
