"""Whether `fbprof ab` tells a model from another one as it should, and how its spread compares with other programs'.

usage: python benchmarks/ab.py [--quick] [--same N] [--other N] [--peers N] [--max-time MINUTES] [--truth MINUTES]

A file with itself must hardly ever be called slower or faster. A network with one more block must be found, and the
intervals must hold the truth, which is a long run of both in turns. At equal time on the same machine, in turns,
LiteRT's own `litert-benchmark` and a plain loop over onnxruntime are asked for the same ratio again and again. A part
of which 0 are asked for is left out: all three at full size take an hour and a half.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _report import Figure, report

from fbexport.export import export_chain
from fbspace.architecture import load_architecture
from fbspace.network import count_spec

SAME, OTHER, PEERS = 40, 20, 20
MAX_TIME_MIN = 1.5
TRUTH_MIN = 12.0
MORE_SHARE = 0.035
"""Of the network's MACs that the block has which is there twice."""
PEER_S = 20.0
"""For both files together, once."""


def networks(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Write FBNet-A, and FBNet-A with one of its blocks twice, in both formats."""
    specs = load_architecture("fbnet-a").specs()
    macs = [count_spec(spec).macs for spec in specs]
    twice = [i for i, spec in enumerate(specs) if spec.stride == 1 and spec.in_channels == spec.out_channels]
    index = min(twice, key=lambda i: abs(macs[i] / sum(macs) - MORE_SHARE))
    more = [*specs[: index + 1], specs[index], *specs[index + 1 :]]
    found = {}
    for name in ("tflite", "onnx"):
        paths = folder / f"base.{name}", folder / f"more.{name}"
        for path, each in zip(paths, (specs, more), strict=True):
            path.write_bytes(export_chain(each, name))
        found[name] = paths
    return found


def ab(old: Path, new: Path, max_time_min: float, seed: int) -> dict[str, object]:
    """Run fbprof ab in a process of its own."""
    argv = [sys.executable, "-m", "fbprof", "ab", str(old), str(new), "--json", "--seed", str(seed)]
    done = subprocess.run([*argv, "--max-time", str(max_time_min)], check=True, capture_output=True, text=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def by_litert_benchmark(path: Path, seconds: float) -> float:
    """Return the average that LiteRT's own program tells, in milliseconds."""
    program = shutil.which("litert-benchmark", path=str(Path(sys.executable).parent)) or "litert-benchmark"
    result = path.with_suffix(".result.json")
    argv = [program, "--model", str(path), "--num_threads", "1", "--warmup_runs", "10", "--result_json", str(result)]
    runs, found = 10, 0.0
    for _ in range(2):  # the first time tells how many runs take so long
        subprocess.run([*argv, "--num_runs", str(runs)], capture_output=True, check=True)
        found = json.loads(result.read_text())["latency"]["avg_ms"]
        runs = max(int(1e3 * seconds / found), 1)
    return found


def by_loop(path: Path, seconds: float) -> float:
    """Return the mean in microseconds of a plain loop over onnxruntime, as people write it, in its own process."""
    code = (
        "import sys, time, numpy as np, onnxruntime as ort\n"
        "o = ort.SessionOptions(); o.intra_op_num_threads = 1\n"
        "s = ort.InferenceSession(sys.argv[1], o)\n"
        "x = {s.get_inputs()[0].name: np.random.rand(1, 3, 224, 224).astype('float32')}\n"
        "for _ in range(10): s.run(None, x)\n"
        "end, t = time.perf_counter() + float(sys.argv[2]), []\n"
        "while time.perf_counter() < end:\n"
        "    a = time.perf_counter(); s.run(None, x); t.append(time.perf_counter() - a)\n"
        "print(1e6 * np.mean(t))\n"
    )
    argv = [sys.executable, "-c", code, str(path), str(seconds)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def spread(ratios: list[float]) -> float:
    """Return the standard deviation of the logarithms, in percent."""
    return 100 * float(np.std(np.log(ratios), ddof=1)) if len(ratios) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few repetitions of a few seconds")
    parser.add_argument("--same", type=int, help="comparisons of a file with itself")
    parser.add_argument("--other", type=int, help="comparisons of a network with one that has one more block")
    parser.add_argument("--peers", type=int, help="repetitions beside other programs")
    parser.add_argument("--max-time", type=float, default=MAX_TIME_MIN, help="minutes of one comparison at most")
    parser.add_argument("--truth", type=float, default=TRUTH_MIN, help="minutes of the run that tells the truth")
    options = parser.parse_args()
    same, other, peers = (
        (2 if options.quick else default) if given is None else given
        for given, default in ((options.same, SAME), (options.other, OTHER), (options.peers, PEERS))
    )
    minutes, peer_s = (0.15, 4.0) if options.quick else (options.max_time, PEER_S)
    with tempfile.TemporaryDirectory() as folder:
        files = networks(Path(folder))
        base, more = files["tflite"]
        told = [ab(base, base, minutes, seed)["answer"] for seed in range(same)]
        print(f"a file with itself: {told}", file=sys.stderr)
        truth = float(str(ab(base, more, 0.5 if options.quick else options.truth, 1000)["percent"])) if other else 0.0
        found = [ab(base, more, minutes, 2000 + seed) for seed in range(other)]
        print(f"truth {truth:.2f} %: {[each['ci_percent'] for each in found]}", file=sys.stderr)
        ratios: dict[str, list[float]] = {"ab": [], "litert_benchmark": [], "ab_onnx": [], "onnxruntime_loop": []}
        for seed in range(peers):
            for name, (one, two), peer in (
                ("ab", files["tflite"], by_litert_benchmark),
                ("ab_onnx", files["onnx"], by_loop),
            ):
                ratios[name].append(1 + float(str(ab(one, two, peer_s / 60, seed)["percent"])) / 100)
                at_once = [peer(path, peer_s / 2) for path in (one, two)]
                ratios["litert_benchmark" if name == "ab" else "onnxruntime_loop"].append(at_once[1] / at_once[0])
            print(f"repetition {seed + 1} of {peers}, {time.strftime('%H:%M')}", file=sys.stderr)
    slower = [each for each in found if each["answer"] == "slower"]
    holds = [low <= truth <= high for low, high in (each["ci_percent"] for each in found)]  # type: ignore[misc]
    figures = []
    if same:
        wrong = sum(word in ("slower", "faster") for word in told)
        figures.append(Figure("same_file_called_different", wrong, "", 2 * same / SAME))
    if other:
        figures += [
            Figure("one_more_block", truth, "%"),
            Figure("one_more_block_found", len(slower), "", 19 * other / OTHER, "at_least"),
            Figure("intervals_hold_the_truth", sum(holds), "", 18 * other / OTHER, "at_least"),
        ]
    if peers:
        figures += [Figure(f"spread_{name}", spread(each), "%") for name, each in ratios.items()]
        for peer, ours in (("litert_benchmark", "ab"), ("onnxruntime_loop", "ab_onnx")):
            figures.append(Figure(f"spread_over_{peer}", spread(ratios[ours]) / spread(ratios[peer]), "", 0.2))
    report("ab", figures, quick=options.quick, max_time_min=minutes, same=same, other=other, peers=peers,
           median_ratio={name: statistics.median(each) for name, each in ratios.items() if each})  # fmt: skip


if __name__ == "__main__":
    main()
