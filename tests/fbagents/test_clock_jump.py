"""Fault: the wall clock jumps. Agents time by the monotonic clock and hosts wait by it, so nothing comes of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fbagents.native import build as native

JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* An hour ahead and an hour behind, in turns. */
static long jump(void) {
  static unsigned calls;
  return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) & 1 ? 3600 : -3600;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  long code = syscall(SYS_clock_gettime, clock, now);
  if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
  return (int)code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec fine;
  clock_gettime(CLOCK_REALTIME, &fine);
  now->tv_sec = fine.tv_sec, now->tv_usec = fine.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec fine;
  clock_gettime(CLOCK_REALTIME, &fine);
  if (now) *now = fine.tv_sec;
  return fine.tv_sec;
}
"""
HOST = """
import json, sys, time
from fbagents.agent.client import AgentClient, Planned
from fbagents.connect import load_profile
from fbagents.connect import connect

jump_s = abs(time.time() - time.time())
start_ns = time.monotonic_ns()
with AgentClient(connect(load_profile(sys.argv[1]))) as agent:
    (child,) = open("/proc/thread-self/children").read().split()
    is_shaken = "jumping_clock" in open(f"/proc/{child}/maps").read()
    load_ns = agent.load("m", sys.argv[2], "litert", (1, 16, 16, 16)).load_ns
    visits = [visit.model_dump() for visit in agent.run([Planned("m", 20)] * 5)]
print(json.dumps([jump_s, is_shaken, load_ns, time.monotonic_ns() - start_ns, visits]))
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler cc")
@pytest.mark.parametrize("device", ["local", "local-native"])
def test_a_clock_that_jumps_changes_no_duration_and_no_deadline(
    device: str, models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "clock.c").write_text(JUMPING_CLOCK)
    library = tmp_path / "jumping_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", tmp_path / "clock.c", "-o", library], check=True, timeout=60)
    native.build(native.host_target())  # with a clock that stands still
    argv = [sys.executable, "-c", HOST, device, str(models["litert"])]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    jump_s, is_shaken, load_ns, elapsed_ns, visits = json.loads(done.stdout)
    assert jump_s > 3600  # the host's clock did jump
    assert is_shaken  # and the agent's
    starts_ns = [visit["start_ns"] for visit in visits]
    assert starts_ns == sorted(starts_ns)
    assert starts_ns[-1] - starts_ns[0] < elapsed_ns
    wall_ns = [ns for visit in visits for ns in visit["wall_ns"]]
    cpu_ns = [ns for visit in visits for ns in visit["cpu_ns"]]
    assert len(wall_ns) == 100
    assert min(wall_ns) > 0
    assert load_ns + sum(wall_ns) < elapsed_ns
    assert sum(wall_ns) > 0.5 * sum(cpu_ns) > 0
