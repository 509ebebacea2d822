"""The emulated arm64 phone: a whole virtual machine, reached by adb and ssh at two ports of this machine's loopback."""

import ctypes
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.profile import Profile
from peers import phone_image
from peers.phone_image import Files

EMULATOR = "qemu-system-aarch64"
BOOT_TIMEOUT_S = 60.0
READY = "phone: ready"
SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
# The kernel ends an emulator with the thread that started it: this one, which lives as long as the tests.
LAUNCHER = ThreadPoolExecutor(max_workers=1)

# What every phone gets beyond its image: the place for programs that Android has and a virtual machine lacks, such as
# {"system/bin/dumpsys": phone_image.text_file("#!/system/bin/sh\n…", 0o755)}. They win over busybox's of the same name.
# /sys cannot be faked so: it is the kernel's own, without cpufreq and thermal zones here.
FILES: Files = {}


class Phone:
    """A running phone that knows the adb key and the ssh key in its folder; `console` is what its kernel and init say.

    What is in /data is lost whenever it starts.
    """

    def __init__(self, image: Path, folder: Path, files: Files = FILES) -> None:
        self.folder = folder
        self.adb_port, self.ssh_port = free_ports(2)
        self._log = folder / "console.log"
        self.image = image
        self._files = dict(files) | self._make_keys()
        self.start()

    def start(self) -> None:
        """Switch it on, and wait until adbd and sshd listen."""
        self._log.write_text("")
        initrd = self.folder / "initrd"  # the kernel unpacks archives that follow one another
        initrd.write_bytes((self.image / "initrd").read_bytes() + phone_image.archive(self._files))
        ports = f"hostfwd=tcp:127.0.0.1:{self.adb_port}-:5555,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        argv = [
            *(EMULATOR, "-M", "virt,gic-version=2", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024"),
            *("-display", "none", "-nodefaults", "-monitor", "stdio", "-serial", f"file:{self._log}"),
            *("-netdev", f"user,id=net,restrict=on,{ports}", "-device", "virtio-net-device,netdev=net"),
            *("-kernel", str(self.image / "kernel"), "-initrd", str(initrd)),
            *("-append", "console=ttyAMA0 quiet rdinit=/init"),
        ]
        with (self.folder / "emulator.log").open("wb") as log:
            self._machine = LAUNCHER.submit(
                subprocess.Popen,
                argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(SET_PDEATHSIG, signal.SIGKILL),
            ).result()
        self._wait_until_ready()
        initrd.unlink()  # the emulator has read it, and pytest keeps the folder for a while

    def restart(self) -> None:
        """Take its battery out and start it again, at the same ports."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Halt it as it is; connections stay open."""
        self._command("stop")

    def thaw(self) -> None:
        """Let it go on."""
        self._command("cont")

    def stop(self) -> None:
        """Take its battery out: open connections break."""
        self._machine.kill()
        self._machine.wait()
        self._machine.stdin.close()

    @property
    def console(self) -> str:
        """What it has said since it was switched on."""
        return self._log.read_text(errors="replace")

    def profile(self, transport: str, **changes: object) -> Profile:
        """Return how to reach it, by "adb" or "ssh", with the native agent."""
        addresses: dict[str, dict[str, object]] = {
            "adb": {"host": "127.0.0.1", "port": self.adb_port, "key_file": str(self.folder / "adbkey")},
            "ssh": {
                "host": "127.0.0.1",
                "port": self.ssh_port,
                "user": "shell",
                "key_file": str(self.folder / "key"),
                "config_file": str(self.folder / "client_config"),
                "known_hosts_file": str(self.folder / "known_hosts"),
            },
        }
        fields = {
            "name": "emulated-phone",
            "description": "an emulated arm64 phone",
            "transport": transport,
            "address": addresses[transport],
            "folder": "/data/local/tmp/fbnet-lab",
            "agent": "native",
        }
        return Profile.model_validate(fields | changes)

    def _make_keys(self) -> Files:
        from adb_shell.auth.keygen import keygen

        for name in ("key", "host_key"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)]
            subprocess.run(argv, check=True)
        (self.folder / "client_config").touch()
        host_key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.ssh_port} {host_key}")
        keygen(str(self.folder / "adbkey"))
        return {
            "adb_keys": phone_image.text_file((self.folder / "adbkey.pub").read_text() + "\n"),
            "etc/ssh/authorized_keys": phone_image.text_file((self.folder / "key.pub").read_text()),
            "etc/ssh/host_key": phone_image.text_file((self.folder / "host_key").read_text(), 0o600),
        }

    def _command(self, command: str) -> None:
        self._machine.stdin.write(f"{command}\n".encode())
        self._machine.stdin.flush()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while READY not in self.console:
            if self._machine.poll() is not None or time.monotonic() > deadline or "Kernel panic" in self.console:
                self.stop()
                emulator = (self.folder / "emulator.log").read_text(errors="replace")
                raise AssertionError(f"the phone did not boot:\n{self.console[-3000:]}\n{emulator[-1000:]}")
            time.sleep(0.02)


def prepare() -> Path:
    """Return the folder of the phone's image, built once. Raises DeviceError where there can be no phone."""
    for tool, package in ((EMULATOR, "qemu-system-arm"), ("ssh-keygen", "openssh-client")):
        if shutil.which(tool) is None:
            raise DeviceError(f"needs {tool}: apt install {package}")
    return phone_image.prepare()


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
