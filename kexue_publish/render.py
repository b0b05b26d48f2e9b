"""Write the pages and the notebooks of the book, from the outputs that `kexue_publish.execute` has put into the cache.

    python -m kexue_publish.render

Sphinx takes a page for finished when its file is newer than its source, even one that was cut off while it was written.
So a run that did not reach its end leaves a mark, and the next one starts afresh.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from kexue_publish.storage import trouble

BUILDERS = (("html",), ("custom", "--custom-builder", "notebooks"))
# Sphinx re-reads a page when its own source changes. It cannot know that one of these did, and it shows a warning only once.
COMMON = ("kexue_publish/*.py", "book/chapters.yml", "references.bib", "_toc.yml", "_config.yml")


def render(source: Path) -> int:
    """Bring the site and the notebooks up to date.

    Parameters
    ----------
    source
        The folder that holds `_toc.yml` and `_config.yml`.

    Returns
    -------
    int
        The status of `jupyter-book`; not 0 when it failed or warned.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    folder = source / "_build"
    site, doctrees, mark = folder / "html", folder / ".doctrees", folder / "unfinished"
    anew = mark.exists() or _outdated(source, doctrees / "environment.pickle")
    folder.mkdir(exist_ok=True)
    mark.touch()
    if anew:
        for old in (doctrees, site):
            if old.exists():
                shutil.rmtree(old)
    # Extensions copy their files after the pages are written, and Sphinx names in a page the checksum of a file that is there
    # already: without this, the second build would write other pages than the first.
    shutil.rmtree(site / "_static", ignore_errors=True)
    for builder in BUILDERS:
        call = "from jupyter_book.cli.main import main; main()"  # as its script, whose Python may be another one
        options = ("-W", "-n", "--keep-going", "-q", "--builder", *builder)
        command = [sys.executable, "-c", call, "build", ".", *options]
        # It keeps what is open here, which is the lock of the build: killed alone, this process leaves it to its child.
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, close_fds=False)
        if done.returncode:
            print(trouble(done.stderr, folder) or done.stderr.rstrip(), file=sys.stderr)
            return done.returncode
    notebooks = site / "notebooks"
    shutil.rmtree(notebooks, ignore_errors=True)
    shutil.copytree(folder / "notebooks/book", notebooks / "book")
    mark.unlink()
    return 0


def _outdated(source: Path, environment: Path) -> bool:
    """Whether something that concerns every page is newer than what Sphinx knows."""
    if not environment.exists():
        return True
    known = environment.stat().st_mtime
    return any(path.stat().st_mtime > known for pattern in COMMON for path in source.glob(pattern))


def main() -> int:
    """Command line: 0 when the site is complete."""
    print("Rendering the pages: a few seconds each that has changed", flush=True)
    try:
        return render(Path())
    except OSError as error:
        if line := trouble(error, Path("_build")):
            print(line, file=sys.stderr)
            return 1
        raise
    except KeyboardInterrupt:
        print("interrupted: the next run writes all pages anew", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
