"""faults/shim.c for one process: a library that is preloaded, and the file that tells it what to do."""
from __future__ import annotations

from pathlib import Path

from . import paths


class Shim:
    """Faults of the file system below one directory, for the program that gets `env`."""

    def __init__(self, directory: Path, control: Path) -> None:
        self._control = control
        self._log = Path(f"{control}.log")
        self.env = {"LD_PRELOAD": str(paths.library("libtidemill-shim.so")), "TM_FAULT_DIR": str(directory.resolve()),
                    "TM_FAULT_CONTROL": str(control)}

    def order(self, text: str) -> None:
        """What to do from now on, in the words of faults/shim.c: "do=enospc on=pwrite,write"."""
        new = Path(f"{self._control}.new")
        new.write_text(text + "\n", encoding="ascii")
        new.rename(self._control)

    def clear(self) -> None:
        """Let everything through."""
        self._control.unlink(missing_ok=True)

    def met(self) -> list[str]:
        """The faults that were done so far: "CALL PATH"."""
        if not self._log.exists():
            return []
        return [line.removeprefix("fault ") for line in self._log.read_text(encoding="utf-8").splitlines()]
