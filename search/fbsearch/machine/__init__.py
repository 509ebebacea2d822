"""What a search and a training need of a computer: devices, ranks, optimizer steps, checkpoints, metrics."""
