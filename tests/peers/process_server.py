"""The server of processes.py: it imports libraries once, at the first request, and forks for every request."""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import types
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000

# None has a plugin for pytest, whose workers are such processes: they first see to it that assertions are rewritten.
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "onnx",
    "onnxruntime",
    "scipy.optimize",
    "matplotlib.figure",
    "sklearn.datasets",
    "ai_edge_litert.interpreter",
)


def next_request(path: str) -> dict[str, Any]:
    """Wait for requests, and return one in each process that is to do as it says; end with the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that ask
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready\n")
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([listener, sys.stdin, *running], [], [])
        for descriptor in running.keys() & set(ready):
            tell_end(*running.pop(descriptor))
            os.close(descriptor)
        if sys.stdin in ready:
            sys.exit()
        if listener in ready:
            for name in LIBRARIES:
                importlib.import_module(name)
            gc.freeze()  # what is not looked at is not copied
            connection, _ = listener.accept()
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile() as lines:
                request: dict[str, Any] = json.loads(lines.readline())
            pid = os.fork()
            if pid == 0:
                for each in (listener, connection, *(connection for _, connection in running.values())):
                    each.close()
                for usual, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, usual)
            for descriptor in (*descriptors, *(running if pid == 0 else ())):
                os.close(descriptor)
            if pid == 0:
                return request
            running[os.pidfd_open(pid)] = pid, connection
            tell(connection, pid)


def tell_end(pid: int, connection: socket.socket) -> None:
    """Let a process go that has ended, which also counts its time as that of this one's children, and tell how."""
    with connection:
        tell(connection, os.waitpid(pid, 0)[1])


def tell(connection: socket.socket, number: int) -> None:
    """Send a number, unless nobody waits for it any more."""
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % number)


def become(words: list[str], env: dict[str, str], cwd: str, in_new_session: bool, network: str | None) -> None:
    """Do what `python` does with these words, in a network namespace where one is named."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if network is not None:
        with Path("/run/netns", network).open() as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot enter the network namespace", network)
    if in_new_session:
        os.setsid()
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = [cwd, *filter(None, paths), *(path for path in sys.path[1:] if path not in here)]
    option, what, *rest = words
    sys.argv[:] = [option, *rest]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert option == "-c"
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


def leave() -> None:
    """End with the code there is, before Python takes apart all that was imported, which takes 0.5 s."""
    if codes:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # Python tells it
        os._exit(codes[0])


if __name__ == "__main__":
    codes: list[int] = []
    atexit.register(leave)  # before all others, and called after them
    try:
        become(**next_request(sys.argv[1]))
        codes.append(0)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            codes.append((ended.code or 0) & 0xFF)
        raise
