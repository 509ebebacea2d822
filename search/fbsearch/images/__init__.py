"""Images: splits, batches, augmentation, and the pool that reads ahead."""
