"""One TOML file per known device; the file name is the device's name."""
