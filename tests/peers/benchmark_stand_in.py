"""A stand-in for Google's benchmark_model: runs a .tflite model with LiteRT and prints as that program prints.

What it times is real; the delegates that it speaks of are not there. Arguments that begin with `stand_in_` are its own.
"""

import json
import math
import os
import socket
import sys
import time
from pathlib import Path

SERVER = "FBNET_LAB_TEST_SERVER"  # of processes.py, which has imported LiteRT


def forked() -> int:
    """Do the same as a process of the server; return how it ended."""
    bound = f"import os, runpy, sys; os.sched_setaffinity(0, {os.sched_getaffinity(0)}); del sys.argv[0]; "
    words = ["-c", f"{bound}runpy.run_path(sys.argv[0], run_name='__main__')", *sys.argv]
    environment = {name: value for name, value in os.environ.items() if name != SERVER}
    request = {"words": words, "env": environment, "cwd": str(Path.cwd()), "in_new_session": False, "network": None}
    with socket.socket(socket.AF_UNIX) as server, server.makefile() as told:
        server.connect(os.environ[SERVER])
        socket.send_fds(server, [b"."], [0, 1, 2])
        server.sendall(json.dumps(request).encode() + b"\n")
        _, status = told.readline(), told.readline()  # the first line is the pid
    return os.waitstatus_to_exitcode(int(status))


given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
style = given.get("stand_in_style", "2024")  # or 2019, litert
fault = given.get("stand_in_fault", "")


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n" if style == "2019" else f"INFO: {text}\n")


def result(text: str) -> None:
    say(f"[./litert/tools/benchmark_litert_model.h:82] {text}")


if SERVER in os.environ and not fault:
    sys.exit(forked())
say("STARTING!")
say(f"Graph: [{given['graph']}]")
if fault == "exit":
    sys.exit("ERROR: Failed to apply GPU delegate.\nERROR: Benchmarking failed.")
if fault == "hang":
    time.sleep(60)
from ai_edge_litert.interpreter import Interpreter  # noqa: E402 - late, as the program loads its model late

start = time.perf_counter_ns()
interpreter = Interpreter(model_path=given["graph"], num_threads=int(given["num_threads"]))
interpreter.allocate_tensors()
init_us = (time.perf_counter_ns() - start) // 1000
delegate = given.get("stand_in_delegate", "")
if "stand_in_delegate_file" in given:
    delegate = Path(given["stand_in_delegate_file"]).read_text().strip()
if delegate == "partially":
    say(
        "Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate "
        "kernels."
    )
elif delegate == "completely":
    say("Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.")
elif delegate == "not":
    say("Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.")
say(f"Initialized session in {init_us / 1e3:g}ms.")


def measure(runs: int, min_s: float) -> list[int]:
    end = "" if style == "2019" else " but terminate if exceeding 150 seconds."
    say(f"Running benchmark for at least {runs} iterations and at least {min_s:g} seconds{end}")
    samples_us: list[int] = []
    finish = time.perf_counter() + min_s
    while len(samples_us) < runs or time.perf_counter() < finish:
        start = time.perf_counter_ns() // 1000
        interpreter.invoke()
        samples_us.append(max(time.perf_counter_ns() // 1000 - start, 1))
    ordered, count = sorted(samples_us), len(samples_us)
    average = sum(samples_us) / count
    variance = sum(us * us for us in samples_us) / count - average**2
    line = f"count={count} "
    if ordered[0] == ordered[-1]:
        line += f"curr={ordered[0]}" + ("(all same)" if count > 1 else "")
    else:
        line += f"first={samples_us[0]} curr={samples_us[-1]} min={ordered[0]} max={ordered[-1]} "
        line += f"avg={average:g} std={int(math.sqrt(variance))}"
    if style != "2019":
        line += "".join(f" {name}={ordered[count * p // 100]}" for name, p in (("p5", 5), ("median", 50), ("p95", 95)))
    say(line.replace(f"avg={average:g}", "avg=nan") if fault == "nan" else line)
    sys.stderr.write("\n")
    return samples_us


warm = measure(int(given["warmup_runs"]), float(given["warmup_min_secs"]))
timed = measure(int(given["num_runs"]), float(given["min_secs"]))
if os.environ.get("STAND_IN_LOG"):
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(f"{sum(timed) / len(timed):g} {sorted(os.sched_getaffinity(0))} {given['num_threads']}\n")
warm_us, us = sum(warm) / len(warm), sum(timed) / len(timed)
if fault == "other":
    us *= 1.01
if style == "2019":
    say(f"Average inference timings in us: Warmup: {warm_us:g}, Init: {init_us}, no stats: {us:g}")
elif style == "litert":
    say("[./litert/tools/benchmark_litert_model.h:81] \n========== BENCHMARK RESULTS ==========")
    result(f"Model initialization: {init_us / 1e3:.2f} ms")
    result(f"Warmup (first):       {warm[0] / 1e3:.2f} ms")
    result(f"Warmup (avg):         {warm_us / 1e3:.2f} ms ({len(warm)} runs)")
    result(f"Inference (avg):      {us / 1e3:.2f} ms ({len(timed)} runs)")
    result(f"Inference (min):      {min(timed) / 1e3:.2f} ms")
    result(f"Inference (max):      {max(timed) / 1e3:.2f} ms")
    result("Inference (std):      0.01")
else:
    say(
        f"Inference timings in us: Init: {init_us}, First inference: {warm[0]}, Warmup (avg): {warm_us:g}, "
        f"Inference (avg): {us:g}"
    )
    say("Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859")
