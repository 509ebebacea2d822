"""One TOML file per search space; the file name is the space's name."""
