"""python -m tests.namespaces NUMBER COMMAND …: run a command as root where there may be so many user namespaces."""

import ctypes
import os
import sys
from pathlib import Path

NEW_USER = 0x10000000


def run(number: str, *command: str) -> None:
    (ready, is_ready), (mapped, is_mapped) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        ctypes.CDLL(None).unshare(NEW_USER)
        os.write(is_ready, b".")
        os.read(mapped, 1)
        Path("/proc/sys/user/max_user_namespaces").write_text(number)
        os.execvp(command[0], command)
    os.read(ready, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text("0 0 65536")
    os.write(is_mapped, b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    run(*sys.argv[1:])
