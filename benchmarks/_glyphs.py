"""Grey images of digits, 28×28 as MNIST's, in the fonts that matplotlib brings: turned, sheared, scaled, moved."""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIZE = 28
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmtt10"),
)


def write_glyphs(path: Path, train: int, test: int, seed: int = 0) -> Path:
    """Write x_train, y_train, x_test, y_test as `--data FILE.npz` reads them; every digit equally often."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        arrays[f"x_{part}"] = np.stack([_glyph(int(label), rng) for label in labels])
        arrays[f"y_{part}"] = labels
    np.savez_compressed(path, **arrays)
    return path


def _glyph(digit: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(folder / f"{rng.choice(FONTS)}.ttf", 3 * SIZE // 2)
    image = Image.new("L", (2 * SIZE, 2 * SIZE))
    ImageDraw.Draw(image).text((SIZE, SIZE), str(digit), fill=255, font=font, anchor="mm")
    turn, scale, shear = rng.normal(0, 0.2), 2 * np.exp(rng.normal(0, 0.15)), rng.normal(0, 0.2)
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    offset = SIZE + rng.normal(0, 3, 2) - matrix @ [SIZE / 2, SIZE / 2]
    coefficients = (matrix[0, 0], matrix[0, 1], offset[0], matrix[1, 0], matrix[1, 1], offset[1])
    small = image.transform((SIZE, SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float64) + rng.normal(0, 20, (SIZE, SIZE))
    return pixels.clip(0, 255).astype(np.uint8)
