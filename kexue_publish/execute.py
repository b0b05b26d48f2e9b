"""Execute the stale notebooks of the book, in parallel, into the cache from which the build takes their outputs.

    python -m kexue_publish.execute

jupyter-cache finds a record by a chapter's code cells alone. Here a record also carries a *key*: Python, KEXUE_SCALE,
the pins of requirements.txt and the source of every `kexue_utils` module that the chapter imports, directly or not.
A chapter is *stale* when it has no readable record or when the key of its record differs from the present one.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import importlib.util
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import psutil
import yaml
from filelock import FileLock, Timeout
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.db import DB_NAME, NbCacheRecord, OrmBase
from jupyter_cache.cache.main import JupyterCacheBase
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml
from sqlalchemy.exc import SQLAlchemyError
from tabulate import tabulate
from tqdm import tqdm
from traitlets.config import Config

from kexue_publish.storage import trouble

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# More than one thread would fight with the other kernels for the cores, and would add up in an order of its own.
# The epoch is what Matplotlib writes into a vector figure in place of the time of day.
KERNEL_ENVIRONMENT = {
    "KEXUE_BOOK": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "0",
}

Graph = dict[str, tuple[str, set[str]]]


@dataclass
class Chapter:
    """A notebook of the book, and what became of it in this run."""

    page: str  # path below the source folder
    notebook: NotebookNode = field(default_factory=NotebookNode)
    key: dict[str, str] = field(default_factory=dict)
    state: str = "cached"  # or "executed" or "failed"
    why: str = ""  # what made it stale
    seconds: float = 0.0  # of its last execution, as are the CPU seconds
    cpu_seconds: float = 0.0
    message: str = ""  # failed: where, the cell, the exception


def execute_book(
    source: Path | str = ".",
    cache: Path | str | None = None,
    *,
    package: Path | str | None = None,
    workers: int | None = None,
) -> list[Chapter]:
    """Bring the cache of a book up to date, those chapters first that took longest the last time.

    Parameters
    ----------
    source : path
        The folder that holds `_toc.yml` and `_config.yml`.
    cache : path, optional
        The folder of the jupyter-cache; by default the one that `jupyter-book build` uses.
    package : path, optional
        The package whose modules make chapters stale, by default `source/kexue_utils`. Kernels import this very copy.
    workers : int, optional
        How many kernels run at a time, by default one for each core.

    Returns
    -------
    list of Chapter
        In the order of `_toc.yml`. A chapter that fails stops no other one. All cells of a chapter together may take
        the seconds of `execute: timeout` in `_config.yml`.

    Raises
    ------
    ValueError
        `_toc.yml` or `_config.yml` cannot be read, or `workers` is less than 1.
    OSError, RuntimeError
        The cache cannot be written (see `kexue_publish.storage.trouble`).
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    source = Path(source).resolve()
    package = Path(package or source / "kexue_utils").resolve()
    settings, pages = _configuration(source)
    folder = Path(cache or settings["nb_execution_cache_path"] or source / "_build/.jupyter_cache").resolve()
    with _locked(folder):
        store = _open(folder)
        records = sorted(store.list_cache_records(), key=lambda record: record.created)
        took = {record.uri: (record.data or {}).get("execution_seconds", math.inf) for record in records}
        common, graph = _common_key(source), import_graph(package)
        markdown = MdParserConfig(enable_extensions=settings["myst_enable_extensions"])
        chapters = [chapter for page in pages if (chapter := _read(source, page, markdown, common, graph))]
        stale = [chapter for chapter in chapters if chapter.state != "failed" and _drop_stale(chapter, store)]
        # What was never timed may be the longest of all; among those, the amount of code has to tell.
        stale.sort(key=lambda c: (took.get(c.page, math.inf), len(str(c.notebook.cells))), reverse=True)
        environment = os.environ | KERNEL_ENVIRONMENT | {"IPYTHONDIR": str(folder / "ipython")}
        search = (str(package.parent), os.environ.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
        limit = settings["nb_execution_timeout"] or -1
        _execute_all(stale, store, source, environment, limit if limit > 0 else math.inf, workers)
    return chapters


def import_graph(package: Path) -> Graph:
    """Digest and imports of every module of a package, read from its source without importing anything.

    Parameters
    ----------
    package : Path
        The folder of the package. Data files in it count as part of its `__init__`, its README does not.

    Returns
    -------
    dict
        For each dotted module name the SHA-256 of its source and the names that it imports (`imported_names`).
    """
    graph = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source, imports = path.read_bytes(), set()
        with suppress(SyntaxError):  # the chapters that import it will fail and say so
            imports = set(imported_names(ast.parse(source), name if is_package else name.rpartition(".")[0]))
        if name == package.name:
            other = (".py", ".pyc", ".md")
            data = (p for p in sorted(package.rglob("[!.]*[!~]")) if p.suffix not in other and p.is_file())
            source += b"".join(p.read_bytes() for p in data)
        graph[name] = (hashlib.sha256(source).hexdigest(), imports)
    return graph


def imported_names(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Dotted names that `tree` may import; relative ones start at `package`, and `p.*` is every module of `p`.

    >>> sorted(imported_names(ast.parse("import kexue_utils.style as st; from . import evidence"), "kexue_utils"))
    ['kexue_utils.evidence', 'kexue_utils.style']
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # A bare `import p` may reach any module as an attribute, even one that `p` loads only when asked.
            yield from (alias.name if "." in alias.name else f"{alias.name}.*" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # relative, beyond the package
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def dependencies(names: Iterable[str], graph: Graph) -> dict[str, str]:
    """Digests of the modules of `graph` that get loaded, directly or not, when `names` are imported.

    >>> graph = {"p": ("d0", set()), "p.a": ("d1", {"p.b.f"}), "p.b": ("d2", set()), "p.c": ("d3", set())}
    >>> dependencies(["numpy.*", "p.a.g"], graph)
    {'p': 'd0', 'p.a': 'd1', 'p.b': 'd2'}
    """
    queue, found = list(names), set[str]()
    while queue:
        name = queue.pop()
        if name.endswith(".*"):
            queue += [module for module in graph if module.startswith(name[:-1])]
        parts = name.split(".")
        loaded = {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & graph.keys() - found
        found |= loaded
        queue += [name for module in loaded for name in graph[module][1]]
    return {module: graph[module][0] for module in sorted(found)}


def _configuration(source: Path) -> tuple[dict, list[str]]:
    """The Sphinx settings that jupyter-book makes of `_config.yml`, so that cells are read as the build reads them."""
    from jupyter_book.config import get_final_config  # takes two seconds, which Sphinx below need not wait for

    config = source / "_config.yml"
    try:
        settings, _ = get_final_config(
            user_yaml=config if config.exists() else None,
            cli_config={"latex_individualpages": False},  # jupyter-book 1.0.4 takes it for granted
        )
        return settings, list(parse_toc_yaml(source / "_toc.yml"))
    except (OSError, ValueError, MalformedError, yaml.YAMLError) as error:
        raise ValueError(f"_toc.yml or _config.yml in {source} cannot be read: {error}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another run is filling {folder}: waiting until it ends.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _open(folder: Path) -> JupyterCacheBase:
    store = get_cache(folder)
    try:
        store.list_cache_records()
    except (RuntimeError, SQLAlchemyError) as error:
        # Killed in its first moments, a run leaves a database without tables.
        if trouble(error, folder):
            raise
        print(f"The cache in {folder} is damaged: every chapter is executed anew.", file=sys.stderr)
        for file in folder.glob(f"{DB_NAME}*"):  # with its journal, which would be played into the new one
            file.unlink()
        store = get_cache(folder)
    OrmBase.metadata.create_all(store.db)  # or with some of its tables only
    return store


def _common_key(source: Path) -> dict[str, str]:
    """What every chapter depends on."""
    file = source / "requirements.txt"
    lines = (line.partition(" #")[0].strip() for line in file.read_text("utf8").splitlines()) if file.exists() else ()
    pins = "\n".join(line for line in lines if line and not line.startswith("#"))
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "KEXUE_SCALE": os.environ.get("KEXUE_SCALE", ""),
        "requirements.txt": hashlib.sha256(pins.encode()).hexdigest(),
    }


def _read(source: Path, page: str, markdown: MdParserConfig, common: dict[str, str], graph: Graph) -> Chapter | None:
    """The notebook of a page, None for a page that is none; "failed" when it, or its code, cannot be read."""
    path = source / page
    if path.suffix not in (".md", ".ipynb", ".rst"):
        path = path.with_name(f"{path.name}.md")
    chapter = Chapter(path.relative_to(source).as_posix())
    try:
        text = path.read_text("utf8")
        if text.startswith("---\n") and "{code-cell}" in text:
            yaml.safe_load(text[4:].partition("\n---")[0])
        if not is_myst_markdown_notebook(text):
            return None
        chapter.notebook = read_myst_markdown_notebook(text, markdown, add_source_map=True, path=path)
        names = {name for tree in _trees(chapter.notebook) for name in imported_names(tree)}
        chapter.key = common | dependencies(names, graph)
        return chapter
    except FileNotFoundError:
        chapter.message = f"{chapter.page}: _toc.yml names it, but there is no such file"
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 2 if getattr(error, "problem_mark", None) else 1
        problem = getattr(error, "problem", None) or error
        chapter.message = f"{chapter.page}:{line}: the YAML header cannot be read: {problem}"
    except SyntaxError as error:
        chapter.message = f"{chapter.page}:{error.filename}: {error.msg} in line {error.lineno} of this cell"
        chapter.message += f": {error.text.strip()}" if error.text else ""
    except Exception as error:
        chapter.message = f"{chapter.page}: cannot be read as a notebook: {' '.join(str(error).split())}"
    chapter.state = "failed"
    return chapter


def _trees(notebook: NotebookNode) -> Iterator[ast.Module]:
    """The syntax trees of the code cells."""
    for cell, line in zip(notebook.cells, notebook.metadata.source_map, strict=True):
        if cell.cell_type != "code":
            continue
        try:
            yield syntax_tree(cell.source, str(line))
        except SyntaxError:
            # The body of a cell magic need not be Python, and some cells show an error on purpose.
            magic = cell.source.startswith("%%")
            if not magic and not {"raises-exception", "skip-execution"} & set(cell.metadata.get("tags", ())):
                raise


def syntax_tree(cell: str, name: str = "<cell>") -> ast.Module:
    """The syntax tree of a code cell, in which IPython's magics have become function calls; a first line ``%%`` is left out."""
    body = cell.partition("\n")[2] if cell.startswith("%%") else cell
    return ast.parse(TransformerManager().transform_cell(body), filename=name)


def _drop_stale(chapter: Chapter, store: JupyterCacheBase) -> bool:
    """Whether the chapter has to be executed; if so the cache forgets it, so that no build can show an old output."""
    try:
        record = store.match_cache_notebook(chapter.notebook)
    except KeyError:
        chapter.why = "new code"
        return True
    try:
        store.get_cache_bundle(record.pk)  # a run that was killed may leave a record without its file
        key = record.data["key"]
        changed = [name for name in chapter.key | key if key.get(name) != chapter.key.get(name)]
        chapter.why = ", ".join(changed)
        chapter.seconds, chapter.cpu_seconds = record.data["execution_seconds"], record.data["cpu_seconds"]
    except Exception:
        chapter.why = "no readable record"
    if chapter.why:
        NbCacheRecord.remove_record(record.pk, store.db)
    return bool(chapter.why)


def _execute_all(
    chapters: list[Chapter],
    store: JupyterCacheBase,
    source: Path,
    environment: dict[str, str],
    limit: float,
    workers: int | None,
) -> None:
    """Run chapters, the first ones first, and store each as soon as it is done."""
    running: dict[str, float] = {}

    def work(chapter: Chapter) -> Chapter:
        start = running[chapter.page] = time.monotonic()
        _execute(chapter, source, environment, limit)
        del running[chapter.page]
        chapter.seconds = time.monotonic() - start
        return chapter

    # Threads, not processes: when this process is killed, nothing that writes into the cache outlives it, and the
    # kernels notice and end. One queue, so that a worker that becomes free takes the longest chapter left.
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    layout = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}"
    bar = tqdm(total=len(chapters), desc="executing", bar_format=layout, disable=None if chapters else True)
    try:
        pending = {pool.submit(work, chapter) for chapter in chapters}
        while pending:
            done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            for chapter in (future.result() for future in done):
                if chapter.state == "executed":
                    _store(chapter, store)
                bar.update()
                if bar.disable:  # no terminal but a log: a line for each chapter instead of a bar
                    print(f"{chapter.state} {chapter.page} in {chapter.seconds:.1f} s", flush=True)
            now = time.monotonic()
            bar.set_postfix_str(", ".join(f"{page} {now - t:.0f} s" for page, t in list(running.items())))
    finally:
        bar.close()
        pool.shutdown(wait=False, cancel_futures=True)


def _store(chapter: Chapter, store: JupyterCacheBase) -> None:
    data = {"execution_seconds": chapter.seconds, "cpu_seconds": chapter.cpu_seconds, "key": chapter.key}
    bundle = CacheBundleIn(chapter.notebook, chapter.page, data=data)
    # A run killed while it stored leaves a folder without a notebook, over which jupyter-cache stumbles.
    shutil.rmtree(store.path / "executed" / store.create_hashed_notebook(chapter.notebook)[1], ignore_errors=True)
    store.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def _execute(chapter: Chapter, source: Path, environment: dict[str, str], limit: float) -> None:
    """Run the cells in a kernel of their own, in the folder of the chapter as the build would do."""
    deadline = time.monotonic() + limit
    position = 0

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal position
        position = cell_index

    def executed(**_: Any) -> None:
        chapter.cpu_seconds = sum(psutil.Process(client.km.provisioner.pid).cpu_times()[:4])

    def seconds_left(_: NotebookNode) -> int | None:
        return max(1, math.ceil(deadline - time.monotonic())) if limit < math.inf else None

    client: Any = NotebookClient(
        chapter.notebook,
        resources={"metadata": {"path": str((source / chapter.page).parent)}},
        timeout_func=seconds_left,
        record_timing=False,  # no time of day in the outputs
        coalesce_streams=True,  # how a stream is cut into messages is a matter of chance
        shutdown_kernel="immediate",
        on_cell_start=started,
        on_cell_executed=executed,
        config=Config(KernelManager={"transport_encryption": "auto"}),  # or else the kernel warns, each time
    )
    try:
        asyncio.run(client.async_execute(env=environment))
        chapter.state = "executed"
    except Exception as error:
        chapter.state = "failed"
        cell, line = chapter.notebook.cells[position], chapter.notebook.metadata.source_map[position]
        chapter.message = f"{chapter.page}:{line}: {_explanation(error, cell, limit)}"


def _explanation(error: Exception, cell: NotebookNode, limit: float) -> str:
    """The exception and the first lines of its cell, with a mark at the line that raised it."""
    at = 0
    if isinstance(error, CellExecutionError):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}\0{error.traceback}")
        said, _, traceback = plain.partition("\0")
        at = int(found[1]) if (found := re.search(r"Cell In\[\d+\], line (\d+)", traceback)) else 0
    elif isinstance(error, CellTimeoutError):
        said = f"the chapter did not end within the {limit:.0f} s of `execute: timeout` in _config.yml"
    else:
        said = f"{type(error).__name__}: {error}"
    lines = enumerate(cell.source.splitlines(), 1)
    code = "\n".join(f"{'>' if n == at else '|'} {line}" for n, line in lines if n <= 6 or n == at)
    head, *rest = said.strip().splitlines()[:20]
    return "\n".join([head, *(indent(line, "    ") for line in rest), indent(code, "    ")])


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx: a page whose chapter was executed since it was last read has to be read again, though its file is old."""

    def executed_since(app: Sphinx, env: Any, *_: set[str]) -> list[str]:
        if env.mystnb_config.execution_mode != "cache":
            return []
        records = get_cache(env.mystnb_config.execution_cache_path).list_cache_records()
        created: dict[str, float] = {}
        for record in records:
            microseconds = record.created.replace(tzinfo=UTC).timestamp() * 1e6
            created[record.uri] = max(microseconds, created.get(record.uri, 0))
        pages = {name: Path(env.doc2path(name, base=False)).as_posix() for name in env.all_docs}
        return [name for name, page in pages.items() if created.get(page, 0) > env.all_docs[name]]

    app.connect("env-get-outdated", executed_since)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when every chapter is in the cache, 1 when one failed, 2 when there is no book to execute."""
    parser = argparse.ArgumentParser(prog="python -m kexue_publish.execute", description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=".", help="folder of _toc.yml and _config.yml (default: here)")
    parser.add_argument("--cache", help="jupyter-cache folder (default: the one that the build uses)")
    parser.add_argument("--workers", type=int, help="kernels at a time (default: one for each core)")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        chapters = execute_book(options.source, options.cache, workers=options.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, RuntimeError, SQLAlchemyError) as error:
        if not (line := trouble(error, Path(options.cache or Path(options.source, "_build")))):
            raise
        print(line, file=sys.stderr, flush=True)
        os._exit(1)  # as below
    except KeyboardInterrupt:
        print("interrupted: what was executed is in the cache, the next run goes on from there", file=sys.stderr)
        os._exit(130)  # without waiting for the chapters that still run; their kernels end with this process
    rows = [(c.page, c.state, c.seconds, c.cpu_seconds, c.why) for c in chapters]
    print(tabulate(rows, ("chapter", "", "seconds", "CPU seconds", "because of"), floatfmt=".1f"))
    failed = [c for c in chapters if c.state == "failed"]
    for chapter in failed:
        print(f"\n{chapter.message}", file=sys.stderr)
    executed = sum(c.state == "executed" for c in chapters)
    cached = len(chapters) - executed - len(failed)
    print(f"\n{executed} executed, {cached} cached, {len(failed)} failed in {time.monotonic() - start:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
