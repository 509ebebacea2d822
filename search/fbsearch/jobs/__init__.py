"""What a command does from files to files: a search, samples of one, a training."""
