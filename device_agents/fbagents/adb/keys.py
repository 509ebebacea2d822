"""The key by which a phone knows this computer: the user's own adb key, made as adb makes it if there is none."""

import base64
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from fbagents.errors import DeviceError


def signer(key: Path) -> Any:
    """Return what signs with the user's adb key, made if there is none. Raises DeviceError."""
    try:
        from adb_shell.auth import keygen
        from adb_shell.auth.sign_pythonrsa import PythonRSASigner
    except ImportError:
        raise DeviceError("phones without an adb server need adb-shell: pip install 'fbnet-lab[adb]'") from None
    try:
        if not key.exists():
            make_key(key)
        public = Path(f"{key}.pub")
        if public.exists():
            text = public.read_text(encoding="utf-8")
        else:
            text = base64.b64encode(keygen.encode_pubkey(str(key))).decode() + keygen.get_user_info()
        return PythonRSASigner(text, key.read_text(encoding="ascii"))
    except OSError as error:
        raise DeviceError(f"cannot use the adb key {key}: {error.strerror}; set address.key_file") from error
    except (ValueError, TypeError) as error:
        raise DeviceError(f"{key} is not an adb key without a passphrase: {error}; set address.key_file") from error


def make_key(key: Path) -> None:
    """Make a key pair as adb does; the private key is never readable by others, and never replaces one."""
    from adb_shell.auth import keygen

    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adbkey-", dir=key.parent) as folder:
        made = Path(folder) / "adbkey"
        keygen.keygen(str(made))
        made.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            os.link(made, key)
            Path(f"{made}.pub").replace(f"{key}.pub")
