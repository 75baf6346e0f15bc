"""What Ray is told before it starts: its environment, its access token, and how its addresses are read."""

from __future__ import annotations

import os
import secrets
import sys
from typing import TYPE_CHECKING

from mriad.environment import quiet
from mriad.launch.files import atomic_write_text, make_folder

if TYPE_CHECKING:
    from pathlib import Path


def ray_environment(token: Path | None = None, address: str = "") -> None:
    """Set what Ray reads when it is imported; call before the first `import ray`. What a user has set stays.

    Args:
        token: where the access token of an embedded Ray lies; None when a running cluster is joined, whose
            own addresses and token are then used.
        address: of the cluster that is joined.
    """
    quiet()
    if token is None:
        # Without this, Ray turns a loopback address of a head on this machine into an outside one, where nothing
        # listens; with it, no node of a real cluster is reached.
        if host_and_port(address)[0] in ("127.0.0.1", "localhost"):
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        elif sys.platform == "linux":
            os.environ.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        return
    settings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES where no GPU is asked for
    }
    if sys.platform == "linux":
        settings["GLOO_SOCKET_IFNAME"] = "lo"
    for key, value in settings.items():
        os.environ.setdefault(key, value)


def host_and_port(address: str) -> tuple[str, int]:
    """Of "host:port" or "ray://host:port"; ("", 0) of a word such as "auto"."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else ("", 0)


def make_token(path: Path) -> None:
    """Keep a random access token at `path` with mode 0600.

    Raises:
        StorageError: the place cannot be written.
    """
    if path.exists():
        path.chmod(0o600)
        return
    make_folder(path.parent)
    atomic_write_text(path, secrets.token_hex(32), mode=0o600)
