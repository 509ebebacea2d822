"""Where it runs: transports to a device, the agent protocol, device profiles."""
