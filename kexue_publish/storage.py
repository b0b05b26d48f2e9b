"""What to say when files cannot be written: one line with what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

# What a build of the whole book takes, with room to spare.
NEEDED = 400_000_000

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# How SQLite says the same, without a number.
DATABASE = {"database or disk is full": errno.ENOSPC, "readonly database": errno.EROFS}
RAISED = re.compile(r"\[Errno (\d+)\] [^\n:]*(?:: '([^'\n]+)')?")


def trouble(said: BaseException | str, folder: Path) -> str | None:
    """What is wrong with the disk, when this is why something failed.

    Parameters
    ----------
    said
        The exception, or what another program has printed.
    folder
        The folder into which it was writing.

    Returns
    -------
    str or None
        One line; None when the failure has another reason.

    Examples
    --------
    >>> trouble("OSError: [Errno 30] Read-only file system: '_build/html/a.html'", Path("_build"))
    '_build/html/a.html cannot be written (Read-only file system): build in a folder in which you may write.'
    >>> trouble(ZeroDivisionError("division by zero"), Path("_build")) is None
    True
    """
    text = said if isinstance(said, str) else " ".join(_chain(said))
    found = [(int(match[1]), match[2]) for match in RAISED.finditer(text)]
    found += [(number, None) for words, number in DATABASE.items() if words in text]
    free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free
    if not found and free < 1_000_000:  # SQLite and others have many words for it
        found = [(errno.ENOSPC, None)]
    for number, file in found:
        where = file or str(folder)
        if number in FULL:
            return (
                f"{where} cannot be written ({os.strerror(number)}): a build of the whole book needs {NEEDED / 1e6:.0f} MB, "
                f"{free / 1e6:.0f} MB are free. Make room and run the same command again: it goes on from there."
            )
        if number in FORBIDDEN:
            return f"{where} cannot be written ({os.strerror(number)}): build in a folder in which you may write."
    return None


def _chain(error: BaseException | None) -> list[str]:
    """What an exception and those that led to it say."""
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__ or error.__context__
    return said
