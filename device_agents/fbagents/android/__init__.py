"""What only Android phones need: their settings while something is timed, and a guardian that restores them."""
