"""Seeds: a random generator for every purpose, so that a run that continues draws what an uninterrupted one draws."""

import numpy as np
import torch


def generator_of(seed: int, purpose: str | int) -> torch.Generator:
    """Return torch's generator of all randomness of one purpose, e.g. one step, or the batch of a number."""
    words = [purpose] if isinstance(purpose, int) else purpose.encode()
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def step_rng(seed: int, epoch: int, step: int) -> np.random.Generator:
    """Return numpy's generator of one step of a training."""
    return np.random.default_rng([seed, *b"train", epoch, step])
