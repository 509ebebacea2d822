"""`python -m fbprof`."""

from fbprof.cli import main

main()
