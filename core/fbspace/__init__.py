"""What may be built: operator specs, blocks, search spaces, architectures and the published networks."""
