"""How large a bundle for boards and phones is, how long making it takes, and how long finding it again.

usage: python benchmarks/bundle.py [--quick]

Made from nothing, into a cache of its own: the agent is compiled, the runtimes are fetched as pip fetches them (out of
pip's own cache where that holds them).
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from _report import Figure, report

from fbagents.native import archive as bundle_archive
from fbagents.native import bundle

TARGET = "aarch64-linux"


WITH_EXECUTORCH = ("executorch", "litert", "onnxruntime")


def size_mb(*asked: str) -> float:
    """Return how large a bundle is, made if need be."""
    made = bundle.build(TARGET, asked)
    return sum((made.folder / name).stat().st_size for name in made.files) / 1e6


def timed_build_s() -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    bundle.build(TARGET)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 further calls instead of 50; no archive, no ncnn")
    options = parser.parse_args()
    calls = 5 if options.quick else 50
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        first_s = timed_build_s()
        again_s = statistics.median(timed_build_s() for _ in range(calls))
        made = bundle.build(TARGET)
        figures = [
            Figure("bundle_mb", size_mb(), "MB", 40),
            Figure("bundle_with_executorch_mb", size_mb(*WITH_EXECUTORCH), "MB", 55),
            Figure("bundle_of_executorch_mb", size_mb("executorch"), "MB"),
            Figure("build", first_s, "s"),
            Figure("second_call", again_s, "s", 0.05),
        ]
        if not options.quick:
            start = time.perf_counter()
            archive_bytes = bundle_archive.write(made, Path(folder) / "bundle.tar.xz")
            figures += [
                Figure("bundle_compressed_mb", archive_bytes / 1e6, "MB", 11),
                Figure("compress", time.perf_counter() - start, "s"),
                Figure("bundle_of_ncnn_mb", size_mb("ncnn"), "MB"),
            ]
    report("bundle", figures, target=TARGET, quick=options.quick, calls=calls)


if __name__ == "__main__":
    main()
