"""What every package of fbnet-lab stands on: errors, safe file writing, the plug-in loader, the command line."""

__version__ = "0.1.0"
