"""A small disk of a test's own, that can be full. Needs root.

    with SmallDisk(path, megabytes=200) as disk:   # from here on this thread and all that it starts sees it at path
        disk.fill()                                # not a byte is free
        disk.free()

A tmpfs in a mount namespace without a name: it goes with the last process in it, so nothing is left behind.
"""
from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from types import TracebackType

CLONE_NEWNS = 0x00020000
CHUNK = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class SmallDisk:
    """Mounted while the block runs."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        self.megabytes = megabytes
        self._ballast = path / "ballast"
        self._before = -1

    def __enter__(self) -> "SmallDisk":
        self._before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._call(_libc.unshare(CLONE_NEWNS), "unshare of mounts (root is needed)")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.megabytes}m,mode=755", "tidemill", str(self.path)],
                       check=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._call(_libc.setns(self._before, CLONE_NEWNS), "setns of mounts")
        os.close(self._before)

    @staticmethod
    def _call(result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")

    def fill(self) -> None:
        """Take all that is left."""
        with open(self._ballast, "ab", buffering=0) as file:
            size = CHUNK
            while size:
                try:
                    if file.write(bytes(size)) < size:
                        size //= 2
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()
