"""One file per command of fbprof; each holds a click command named `command`."""
