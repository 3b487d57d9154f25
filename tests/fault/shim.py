"""The other side of preload.c: builds it, maps its control page, arms faults and turns the clock."""

import mmap
import os
import pathlib
import struct
import subprocess

OPEN, WRITE, SYNC, NAME, READ, ALLOC, MAKE = 1, 2, 4, 8, 16, 32, 64
DISK = OPEN | WRITE | SYNC | NAME
ANY = -1  # instead of a process id

# struct control of preload.c.
PID, KINDS, COUNT, FAIL_AT, FOREVER, ERROR, SHORT, INJECTED, CLOCK = 0, 4, 8, 16, 24, 28, 32, 40, 48


def build(folder):
    library = pathlib.Path(folder) / "preload.so"
    source = pathlib.Path(__file__).with_name("preload.c")
    subprocess.run(["cc", "-std=gnu11", "-O1", "-fno-builtin-malloc", "-fno-builtin-calloc", "-shared", "-fPIC", "-pthread",
                    "-o", str(library), str(source)], check=True, timeout=60)
    return library


class Shim:
    """Faults for the program that is started with `env`; `watched` is the folder whose files they hit."""

    def __init__(self, library, folder, watched, log=None):
        path = pathlib.Path(folder) / "control"
        path.write_bytes(bytes(4096))
        self.file = open(path, "r+b")
        self.page = mmap.mmap(self.file.fileno(), 4096)
        self.env = {"LD_PRELOAD": str(library), "FAULT_CONTROL": str(path), "FAULT_DIR": str(watched)}
        if log:
            self.env["FAULT_LOG"] = str(log)

    def _set(self, at, form, value):
        struct.pack_into(form, self.page, at, value)

    def _get(self, at):
        return struct.unpack_from("<q", self.page, at)[0]

    def arm(self, pid, kinds, at, error=0, forever=False, short=False):
        """The at-th call of these kinds fails; 0 only counts."""
        self.disarm()
        for place, form, value in ((COUNT, "<q", 0), (FAIL_AT, "<q", at), (INJECTED, "<q", 0), (FOREVER, "<i", forever),
                                   (ERROR, "<i", error), (SHORT, "<i", short), (PID, "<i", pid), (KINDS, "<i", kinds)):
            self._set(place, form, value)

    def disarm(self):
        self._set(KINDS, "<i", 0)

    def turn_clock(self, seconds):
        self._set(CLOCK, "<q", int(seconds * 1000000))

    @property
    def count(self):
        return self._get(COUNT)

    @property
    def injected(self):
        return self._get(INJECTED)

    def close(self):
        self.page.close()
        self.file.close()
