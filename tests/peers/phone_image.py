"""The emulated arm64 phone's kernel and file system: Debian's real adbd and sshd over busybox, laid out as Android's.

No root is needed: the file system is one cpio archive, written here, and in it everything belongs to root.
"""

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native import debian

Files = Mapping[str, tuple[int, bytes]]  # path within the phone: its kind and mode, its content

USER_SUITE, KERNEL_SUITE = "trixie", "bookworm"  # the first adbd with shell v2; a kernel that boots in older emulators
KERNEL = "linux-image-cloud-arm64"
MODULES = ("virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net")  # in order of loading
ADBD = "usr/lib/android-sdk/platform-tools/adbd"
LIBRARIES = "usr/lib/aarch64-linux-gnu"
PACKAGES = (  # programs, and exactly the libraries that they are linked with
    *("busybox", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
    *("adbd", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog"),
    *("libbrotli1", "libcap2", "liblz4-1", "libprotobuf32t64", "libsystemd0", "libxxhash0", "libzstd1"),
    *("openssh-server", "libaudit1", "libcap-ng0", "libcom-err2", "libcrypt1", "libgssapi-krb5-2", "libk5crypto3"),
    *("libkeyutils1", "libkrb5-3", "libkrb5support0", "libpam0g", "libpcre2-8-0", "libselinux1", "libsqlite3-0"),
    *("libssl3t64", "libwrap0", "libwtmpdb0"),
)
INIT = """#!/system/bin/sh
export PATH=/system/bin HOME=/root
/system/bin/busybox --install -s /system/bin 2>/dev/null  # a file that is there already stays
chmod 755 /
mkdir -p /proc /sys /data /run/sshd
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=771,size=400m data /data
mkdir -p /data/local/tmp
chmod 771 /data/local /data/local/tmp
chown 2000:2000 /data/local/tmp
for module in MODULES; do insmod /lib/modules/$module.ko; done
until [ -e /sys/class/net/eth0 ]; do sleep 0.02; done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
/usr/sbin/sshd -f /etc/ssh/sshd_config -E /run/sshd.log || cat /run/sshd.log
{
  until grep -q ':15B3 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done
  echo "phone: ready after $(cut -d ' ' -f 1 /proc/uptime) s"
} &
while :; do
  su -s /system/bin/sh shell -c 'cd /; ADBD_PORT=5555 exec /sbin/adbd'
  echo "phone: adbd ended with $?"
  sleep 0.5
done
"""
SSHD_CONFIG = """
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
SetEnv PATH=/system/bin
"""
ETC = {
    "passwd": "root:x:0:0::/root:/system/bin/sh\nshell:x:2000:2000::/data/local/tmp:/system/bin/sh\n"
    "sshd:x:100:65534::/run/sshd:/bin/false\n",
    "group": "root:x:0:\nshell:x:2000:\nnogroup:x:65534:\n",
    "ssh/sshd_config": SSHD_CONFIG,
}


def prepare() -> Path:
    """Return a folder with the files `kernel` and `initrd`, built once into the cache. Raises DeviceError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"phone-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    work = folder.with_suffix(".part")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it if this process is killed
        if not folder.is_dir():
            shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
            build(work)
            shutil.rmtree(work / "packages")
            work.rename(folder)
    return folder


def build(folder: Path) -> None:
    """Write `kernel` and `initrd` into `folder`. Raises DeviceError."""
    user, system = folder / "packages" / "user", folder / "packages" / "system"
    debian.unpack(PACKAGES, USER_SUITE, "arm64", user)
    debian.unpack([KERNEL], KERNEL_SUITE, "arm64", system, closure=True)
    (kernel,) = (system / "boot").glob("vmlinuz-*")
    kernel.rename(folder / "kernel")
    files = {f"etc/{name}": text_file(text) for name, text in ETC.items()}
    files |= {"init": text_file(INIT.replace("MODULES", " ".join(MODULES)), 0o755)}
    files |= {name: link(target) for name, target in (("bin", "system/bin"), ("lib", "usr/lib"))}
    files |= {"system/bin/sh": link("busybox"), "system/bin/busybox": program(user / "usr/bin/busybox")}
    files |= {f"usr/lib/openssh/{path.name}": program(path) for path in (user / "usr/lib/openssh").iterdir()}
    files |= {"usr/sbin/sshd": program(user / "usr/sbin/sshd"), "sbin/adbd": (0o100755, demanding(user / ADBD))}
    files |= {f"usr/lib/modules/{name}.ko": program(next(system.rglob(f"{name}.ko"))) for name in MODULES}
    for path in [*(user / LIBRARIES).iterdir(), *(user / LIBRARIES / "android").iterdir()]:
        if path.is_symlink():
            files[str(path.relative_to(user))] = link(str(path.readlink()))
        elif path.is_file():
            files[str(path.relative_to(user))] = program(path)
    files["usr/lib/ld-linux-aarch64.so.1"] = link("aarch64-linux-gnu/ld-linux-aarch64.so.1")
    (folder / "initrd").write_bytes(archive(files))


def demanding(adbd: Path) -> bytes:
    """Return adbd's program, changed to ask for a key as phones do, and to know those in /adb_keys.

    Debian's build sets auth_required = false at start, soon after signal(SIGPIPE, SIG_IGN); that one store is left out.
    """
    ignore_sigpipe = rb"(?:\xa0\x01\x80\x52\x21\0\x80\x52|\x21\0\x80\x52\xa0\x01\x80\x52)"  # mov w0, 13; mov w1, 1
    store_zero = rb"[\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff][\x00-\x03]\0\x39"  # strb wzr, [register]
    no_operation = b"\x1f\x20\x03\xd5"
    pattern = rb"(%s(?:.{4}){0,12}?)%s" % (ignore_sigpipe, store_zero)
    changed, stores = re.subn(pattern, lambda found: found[1] + no_operation, adbd.read_bytes(), flags=re.DOTALL)
    if stores != 1:
        raise DeviceError("another build of adbd: where it switches authentication off is not known")
    return changed


def text_file(text: str, mode: int = 0o644) -> tuple[int, bytes]:
    return stat.S_IFREG | mode, text.encode()


def program(path: Path) -> tuple[int, bytes]:
    return stat.S_IFREG | 0o755, path.read_bytes()


def link(target: str) -> tuple[int, bytes]:
    return stat.S_IFLNK | 0o777, target.encode()


def archive(files: Files) -> bytes:
    """Return files, and the folders they lie in, as a cpio archive ("newc") that the kernel unpacks over another."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."} - set(files)
    entries = dict.fromkeys(folders, (stat.S_IFDIR | 0o755, b"")) | dict(files)
    parts = []
    for number, (name, (mode, content)) in enumerate([*sorted(entries.items()), ("TRAILER!!!", (0, b""))], start=1):
        path = name.encode() + b"\0"
        owner_and_time = (0, 0, 1, 0)
        header = (number, mode, *owner_and_time, len(content), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in header) + path
        parts += [head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)]
    data = b"".join(parts)
    return data + bytes(-len(data) % 512)
