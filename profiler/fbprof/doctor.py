"""Doctor: what this machine and a device have and lack for measuring, each finding with its remedy."""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.cores import spelled
from fbagents.agent.protocol import Cluster, Loaded
from fbagents.connect import connect, load_profile
from fbagents.discovery import attached
from fbagents.errors import AgentReplyError, DeviceError
from fbagents.native import build as native
from fbagents.native import bundle
from fbagents.profile import Profile
from fbagents.transport import Transport
from fbbase.errors import FbError
from fbbase.locks import scratch_folder
from fbbase.progress import Waiting
from fbexport.formats import format_of, load_format
from fbexport.residual import residual_model
from fbexport.runtimes import DEFAULT, loadable
from fbprof.journal.conditions import device_words
from fbspace.opspec import OpSpec

Status = Literal["ok", "warning", "failed"]

PROBE = OpSpec("ir", 16, 24, 32, 32, kernel=3, stride=2, expansion=3)
"""The operator that is tried with every runtime."""
VISITS, RUNS, PROCESSES = 60, 3, 5
SAME_OUTPUT = 1e-5
"""By how much the sum of outputs may differ from this machine's, as a share of the sum of their absolute values."""
NOISY_PERCENT = 10.0
"""Interquartile range of the visits' latencies, in percent of their median."""
HOT_C = 60.0
FREE_BYTES = 1 << 30
FREE_MEMORY_BYTES = 256 << 20
BUSY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `remedy` says what to do, and is empty where all is well."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def _warn_if(is_wrong: bool, name: str, found: str, remedy: str) -> Check:
    return Check(name, "warning", found, remedy) if is_wrong else Check(name, "ok", found)


def check_host() -> Iterator[Check]:
    """Yield what measuring any device needs of this machine."""
    for look in (_disk, _load, _compiler, _bundle, _ssh, _adb_key, _phones):
        try:
            yield look()
        except DeviceError as error:  # no compiler, no bundle: other devices can be measured without
            found, _, remedy = str(error).partition(": ")
            yield Check(look.__name__.removeprefix("_"), "warning", found, remedy)


def check_device(profile: Profile) -> Iterator[Check]:
    """Yield what is known of a device, from reaching it to timing an operator; ends where nothing more can be known."""
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(Waiting(profile.name, "reaching it and starting the agent"))
        try:
            start = time.monotonic()
            transport = connect(profile)
            stack.callback(transport.close)
            agent = stack.enter_context(AgentClient(transport, cores=profile.cores))
        except FbError as error:
            yield Check("agent", "failed", str(error))  # which says what to do
            return
        hello = agent.hello
        where = device_words(hello.device_model, hello.soc)
        yield Check("agent", "ok", f"{hello.agent} on {where} ({hello.system}) in {time.monotonic() - start:.1f} s")
        yield from _cores(agent, profile.cores is not None)
        yield from _state(agent)
        if not hello.runtimes:
            usual_first = sorted(loadable().items(), key=lambda each: each[0] != DEFAULT)
            packages = " or ".join(each.package for _, each in usual_first)
            advice = f"install {packages} there, or set agent = 'native' in its profile"
            yield Check("runtimes", "failed", "none", advice)
        folder = stack.enter_context(scratch_folder())
        for runtime, version in hello.runtimes.items():
            waiting(f"trying runtime {runtime}")
            yield _run(agent, transport, folder, runtime, version)


def _run(agent: AgentClient, transport: Transport, folder: Path, runtime: str, version: str) -> Check:
    """Load the probe, compare its output with this machine's, and time it."""
    name = f"runtime {runtime}"
    try:
        model_format = format_of(runtime)
        path = folder / f"{runtime}{load_format(model_format).suffix}"
        path.write_bytes(residual_model(PROBE, model_format))
        loaded = agent.load("probe", transport.push(path), runtime, PROBE.input_shape)
        tells_runs = loaded.outputs > 0
        visits = list(agent.run([Planned("probe", RUNS)] * VISITS if tells_runs else [Planned("probe", 1)] * PROCESSES))
        agent.unload("probe")
    except AgentReplyError as error:
        return Check(name, "failed", str(error), "install another version of the runtime there, or use another runtime")
    except FbError as error:
        return Check(name, "failed", str(error), "measure with another runtime")
    latencies_us = sorted(statistics.median(visit.wall_ns) / 1e3 for visit in visits)
    median_us = statistics.median(latencies_us)
    spread = 100 * (latencies_us[len(latencies_us) * 3 // 4] - latencies_us[len(latencies_us) // 4]) / median_us
    found = f"{version}, an operator of {median_us:.0f} µs ± {spread / 2:.1f} %"
    if not tells_runs:
        found += "".join(["; benchmark_model shows no output to compare", *(f", {each}" for each in loaded.delegates)])
    difference, here = _difference(path, runtime, loaded) if tells_runs else (None, "")
    if difference is not None and difference > SAME_OUTPUT:
        found += f"; its output differs from this machine's ({here}) by {difference:.1e} of its size"
        return Check(name, "failed", found, "do not measure with it: install the version that is on this machine")
    if tells_runs:
        found += ", output not compared: not installed here" if difference is None else ", output as on this machine"
    remedy = "close other programs there, keep it cool, or bind it with --cores"
    return _warn_if(spread > NOISY_PERCENT, name, found, remedy)


def _difference(path: Path, runtime: str, loaded: Loaded) -> tuple[float | None, str]:
    """Return how far an output is from that of this machine's runtime, None without one, and its version."""
    with contextlib.closing(connect(load_profile("local"))) as local, AgentClient(local) as here:
        if runtime not in here.hello.runtimes:
            return None, ""
        own = here.load("probe", local.push(path), runtime, PROBE.input_shape)
        return abs(loaded.output_sum - own.output_sum) / max(own.output_abs_sum, 1e-30), here.hello.runtimes[runtime]


def _cores(agent: AgentClient, is_bound: bool) -> Iterator[Check]:
    clusters = agent.hello.clusters
    bound = spelled(agent.hello.cores) if agent.hello.cores is not None else "not bound"
    if not clusters:
        untold = "their kinds are not told, so --cores takes numbers only and not big or little"
        yield Check("cores", "ok", f"{bound}; {untold}")
        return
    kinds = ", ".join(f"{spelled(c.cores)}{_up_to(c)}" for c in clusters)
    clocks = [c.max_khz or 0 for c in clusters]
    if max(clocks) > clocks[-1]:
        kinds += f": {spelled(clusters[-1].cores)} are the big ones by what they are, though others have a higher clock"
    allowed = set(agent.hello.cores or ())
    is_free = not is_bound and sum(not allowed or not allowed.isdisjoint(cluster.cores) for cluster in clusters) > 1
    yield _warn_if(is_free, "cores", f"{bound}; {kinds}", "bind it to cores of one kind: --cores big")


def _up_to(cluster: Cluster) -> str:
    capacity = f" of capacity {cluster.capacity}" if cluster.capacity else ""
    return capacity + (f" up to {cluster.max_khz / 1e6:.2f} GHz" if cluster.max_khz else "")


def _state(agent: AgentClient) -> Iterator[Check]:
    state = agent.state()
    if state.freq_khz:
        yield Check("clock", "ok", ", ".join(f"{khz / 1e6:.2f}" for khz in state.freq_khz.values()) + " GHz")
    else:
        yield Check("clock", "ok", _missing("freq_khz", state.denied) + ": drift is estimated from the samples alone")
    if state.temperature_c:
        zone, hottest = max(state.temperature_c.items(), key=lambda item: item[1])
        remedy = "let it cool: hot devices lower their clocks"
        yield _warn_if(hottest > HOT_C, "temperature", f"{hottest:.0f} °C ({zone})", remedy)
    else:
        yield Check("temperature", "ok", _missing("temperature_c", state.denied))
    free = state.memory_available_bytes
    found = f"{free / 1e6:.0f} MB free" if free is not None else "not told"
    yield _warn_if(free is not None and free < FREE_MEMORY_BYTES, "memory", found, "close other programs there")


def _missing(field: str, denied: tuple[str, ...]) -> str:
    return "may not be read there" if field in denied else "not told by it"


def _disk() -> Check:
    folders = [Path.cwd(), Path(tempfile.gettempdir())]
    free = {folder: shutil.disk_usage(folder).free for folder in folders}
    found = ", ".join(f"{size / 1e9:.1f} GB free in {folder}" for folder, size in free.items())
    remedy = "make room: journals and model files of a large space take 1 GB"
    return _warn_if(min(free.values()) < FREE_BYTES, "disk", found, remedy)


def _load() -> Check:
    cores = os.cpu_count() or 1
    if not hasattr(os, "getloadavg"):
        return Check("load", "ok", "not told")
    load = os.getloadavg()[0]
    remedy = "for --device local, wait until other programs are done"
    return _warn_if(load > BUSY_SHARE * cores, "load", f"{load:.1f} on {cores} cores", remedy)


def _compiler() -> Check:
    targets = dict.fromkeys([native.host_target(), "aarch64-linux"])
    programs = {target: " ".join(Path(part).name for part in native.compiler(target)[:4]) for target in targets}
    return Check("compiler", "ok", ", ".join(f"{program} for {target}" for target, program in programs.items()))


def _bundle() -> Check:
    there = bundle.load(bundle.place("aarch64-linux", bundle.ingredients("aarch64-linux")))
    found = f"for aarch64, {there.digest[:12]}" if there else "for aarch64 is built when it is first needed"
    return Check("bundle", "ok", found)


def _ssh() -> Check:
    program = shutil.which("ssh")
    remedy = "for devices over ssh, install openssh-client"
    return _warn_if(program is None, "ssh client", program or "not installed", remedy)


def _adb_key() -> Check:
    key = Path("~/.android/adbkey").expanduser()
    if not key.exists():
        return Check("adb key", "ok", f"none yet; {key} is made when a phone is first reached")
    if not os.access(key, os.R_OK):
        return Check("adb key", "warning", f"{key} may not be read", f"for phones: chmod 600 {key}, as its owner")
    return Check("adb key", "ok", str(key))


def _phones() -> Check:
    try:
        phones = attached()
    except FbError as error:
        return Check("phones", "warning", str(error), "only phones over adb need this")
    found = ", ".join(map(str, phones)) or "none attached"
    remedies = [phone.remedy for phone in phones if not phone.is_usable]
    return Check("phones", "warning" if remedies else "ok", found, "; ".join(remedies))
