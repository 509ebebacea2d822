"""One file per command of fbsearch; each holds a click command named `command`."""
