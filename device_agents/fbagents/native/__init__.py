"""The native agent: compiled here or bundled with what a phone lacks."""
