"""One architecture file per published network; the file name is the network's name."""
