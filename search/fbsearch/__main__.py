"""`python -m fbsearch`."""

from fbsearch.cli import main

main()
