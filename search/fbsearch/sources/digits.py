"""digits: the 1,797 grey images of 8×8 that scikit-learn ships."""

import numpy as np

from fbsearch.sources import Opener, Source, array_source


class Digits(Opener):
    """A small set that is always there."""

    needs_rest = False

    def open(self, rest: str, size: int) -> tuple[Source, None]:
        """Return all images; there are none set apart for testing."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = digits.images.astype(np.float32)[:, None]
        return array_source(images, digits.target.astype(np.int64), tuple("0123456789"), "digits"), None
