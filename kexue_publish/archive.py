"""The built site as one zip: unpacked anywhere, it opens from its folder.

    python -m kexue_publish.archive _build/html _build/derivations-that-run.zip

The same site gives the same file, byte for byte.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from kexue_publish.storage import trouble


def pack(site: Path, target: Path) -> None:
    """Write the files of a site into a zip, in a folder of the zip's own name.

    Parameters
    ----------
    site
        The folder of the site.
    target
        The file to write; it appears only when it is complete.

    Raises
    ------
    FileNotFoundError
        If the site has no ``index.html``.
    OSError
        If the file cannot be written; what was written of it is removed.
    """
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"{site} has no index.html: build the book first")
    partial = target.with_name(f"{target.name}.part")
    try:
        with ZipFile(partial, "w") as archive:
            for path in sorted(path for path in site.rglob("*") if path.is_file()):
                name = f"{target.stem}/{path.relative_to(site).as_posix()}"
                entry = ZipInfo(name)  # without the time of the file
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), ZIP_DEFLATED)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(target)


def main(arguments: list[str]) -> int:
    """Command line: 0 when the zip is there."""
    site, target = map(Path, arguments)
    try:
        pack(site, target)
    except OSError as error:
        print(trouble(error, target.parent) or error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
