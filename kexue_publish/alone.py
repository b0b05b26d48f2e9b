"""Run a command while no other one runs in this folder: a second waits, and says so.

    python3 kexue_publish/alone.py make book

The lock is on the open folder itself: nothing is written. The command and all that it starts inherit the open folder, so
it is free again when the last of them has ended, however it ended. Needs nothing but Python: it comes before `.venv`.
"""

from __future__ import annotations

import fcntl
import os
import sys


def main(command: list[str]) -> None:
    """Take the lock of the working folder, and become `command`."""
    folder = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another build is running in {os.getcwd()}: waiting until it ends.", file=sys.stderr, flush=True)
        fcntl.flock(folder, fcntl.LOCK_EX)
    os.set_inheritable(folder, True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
