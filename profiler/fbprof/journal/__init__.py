"""What was recorded: every sample, and the device's state around it."""
