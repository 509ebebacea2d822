"""Model files that anyone wrote: named on a command line, profiled, held against each other."""
