"""Whether every check of the book can fail: each claim is mutated, and its check has to reject what comes out.

    python -m kexue_publish.audit

Every chapter runs in a kernel of its own, in which the functions of `kexue_utils.evidence` attack their own claims (`attack`).
Nothing of this reaches the cache of the build. The report counts the mutants by kind of evidence and by operator, and lists those
that a check accepted; the exit status is 1 if one of them is neither the same claim nor implied by it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
from myst_parser.config.main import MdParserConfig
from pybtex.database import parse_file
from tabulate import tabulate

from . import execute
from .attack import MIME
from .mutations import short
from .strength import Book, Entry, Piece

OUTCOMES = ("caught", "equivalent", "implied", "premise", "undecided", "survived")
PREAMBLE = "from kexue_publish.attack import install\n\ninstall()"


def audit_book(
    source: Path | str = ".", pages: Iterable[str] = (), *, workers: int | None = None
) -> tuple[list[dict], list[str]]:
    """Run chapters, and attack every claim in them.

    Parameters
    ----------
    source : the folder that holds `_toc.yml` and `_config.yml`.
    pages : parts of the paths of the chapters wanted; all chapters by default.
    workers : how many kernels run at a time, by default one for each core.

    Returns
    -------
    One record for each piece of evidence: ``page``, ``line`` of its cell, ``kind``, ``label``, and ``outcomes``, one for each mutant.
    And a message for each chapter that does not run.

    Raises
    ------
    ValueError : `_toc.yml` or `_config.yml` cannot be read.
    """
    source = Path(source).resolve()
    settings, names = execute._configuration(source)
    markdown = MdParserConfig(enable_extensions=settings["myst_enable_extensions"])
    wanted = [name for name in names if not (parts := list(pages)) or any(part in name for part in parts)]
    chapters = [chapter for name in wanted if (chapter := execute._read(source, name, markdown, {}, {}))]
    environment = os.environ | execute.KERNEL_ENVIRONMENT
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    del environment["KEXUE_BOOK"]  # frames for sliders are not needed here
    # longest first, by the amount of code
    chapters.sort(key=lambda chapter: len(str(chapter.notebook.get("cells"))), reverse=True)

    def work(chapter: execute.Chapter) -> list[dict]:
        if chapter.state == "failed":
            return []
        chapter.notebook.cells.insert(0, nbformat.v4.new_code_cell(PREAMBLE))
        chapter.notebook.metadata.source_map.insert(0, 0)
        started = time.monotonic()
        execute._execute(chapter, source, environment, math.inf)
        if chapter.state == "failed":
            return []
        found = list(_records(chapter))
        survivors = sum(outcome["outcome"] == "survived" for record in found for outcome in record["outcomes"])
        print(f"{chapter.page}: {survivors} survived, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        records = [record for found in pool.map(work, chapters) for record in found]
    bibliography = source / "references.bib"
    known = parse_file(str(bibliography)).entries if bibliography.exists() else {}
    for record in records:
        if record["kind"] == "cite":
            record["outcomes"] = [_wrong_key(record, known, key) for key in _other_keys(record["citation"])]
    records.sort(key=lambda record: (wanted.index(Path(record["page"]).with_suffix("").as_posix()), record["line"]))
    return records, [chapter.message for chapter in chapters if chapter.state == "failed"]


def _records(chapter: execute.Chapter) -> Iterable[dict]:
    for cell, line in zip(chapter.notebook.cells, chapter.notebook.metadata.source_map, strict=True):
        for output in cell.get("outputs", ()):
            if MIME in output.get("data", ()):
                yield {"page": chapter.page, "line": line, **output["data"][MIME]}


def _other_keys(key: str) -> list[str]:
    return [key[:-1], f"{key}a", key[1:]]


def _wrong_key(record: dict, known: Any, key: str) -> dict:
    """Whether the ledger notices a key that the bibliography lacks."""
    book = Book.__new__(Book)
    domain = SimpleNamespace(bibdata=SimpleNamespace(data=SimpleNamespace(entries=known)))
    book.env, book.problems = SimpleNamespace(domains={"cite": domain}), []  # type: ignore[assignment]
    piece = Piece({"kind": "cited", "label": record["label"], "citation": key, "using": []}, record["line"], "")
    book.entries = {record["label"]: Entry(record["label"], record["page"], "", None, "", "", [piece])}
    book._check_sources()
    seen = any(problem[2] == "citation" for problem in book.problems)
    return {
        "operator": "key",
        "where": "key",
        "what": f"{record['citation']} → {key}",
        "outcome": "caught" if seen else "survived",
        "why": "" if seen else "the ledger does not report it",
    }


def report(records: list[dict]) -> str:
    """The counts, and every mutant that was accepted or not decided, with its place."""
    outcomes = [
        (record, outcome) for record in records for outcome in record["outcomes"] if outcome["outcome"] != "invalid"
    ]
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    operators = sorted({outcome["operator"] for _, outcome in outcomes})
    parts = [
        _table(
            "kind of evidence", kinds, outcomes, lambda record, _: record["kind"], Counter(r["kind"] for r in records)
        ),
        _table("operator", operators, outcomes, lambda _, outcome: outcome["operator"]),
    ]
    for name in OUTCOMES[1:]:
        lines = [_line(record, outcome) for record, outcome in outcomes if outcome["outcome"] == name]
        if lines:
            parts.append("\n".join([f"{name}: {len(lines)}", *lines]))
    unharmed = [r for r in records if r["outcomes"] and not any(o["outcome"] == "caught" for o in r["outcomes"])]
    if unharmed:
        places = (f"  {r['page']}:{r['line']} {r['label']} ({r['kind']})" for r in unharmed)
        parts.append("\n".join([f"no mutant caught: {len(unharmed)}", *places]))
    counts = Counter(outcome["outcome"] for _, outcome in outcomes)
    total = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES)
    parts.append(f"{len(records)} pieces of evidence, {len(outcomes)} mutants tried: {total}")
    return "\n\n".join(parts)


def _table(head: str, rows: list[str], outcomes: list, row_of: Any, pieces: Counter[str] | None = None) -> str:
    counts = Counter((row_of(record, outcome), outcome["outcome"]) for record, outcome in outcomes)
    body = [
        [
            row,
            *([pieces[row]] if pieces else []),
            sum(counts[row, name] for name in OUTCOMES),
            *(counts[row, name] for name in OUTCOMES),
        ]
        for row in rows
    ]
    return tabulate(body, [head, *(["pieces"] if pieces else []), "tried", *OUTCOMES])


def _line(record: dict, outcome: dict) -> str:
    step = f" ({short(record['step'], 50)})" if record["step"] else ""
    place = f"{record['page']}:{record['line']} {record['label']}{step}"
    return f"  {place}\n      {record['kind']}, {outcome['where']}, {outcome['operator']}: {outcome['what']}\n      {outcome['why']}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when no mutant survived, 1 when one did, 2 when a chapter does not run."""
    parser = argparse.ArgumentParser(prog="python -m kexue_publish.audit", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="parts of the paths of chapters (default: all chapters)")
    parser.add_argument("--source", default=".", help="folder of _toc.yml and _config.yml (default: here)")
    parser.add_argument("--output", default="_build/audit", help="where to write the report, as .txt and as .json")
    parser.add_argument("--workers", type=int, help="kernels at a time (default: one for each core)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        records, failures = audit_book(options.source, options.pages, workers=options.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    text = f"{report(records)}, in {time.monotonic() - started:.0f} s"
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", "utf8")
    output.with_suffix(".txt").write_text(text + "\n", "utf8")
    print(text)
    for message in failures:
        print(message, file=sys.stderr)
    if failures:
        return 2
    return int(any(outcome["outcome"] == "survived" for record in records for outcome in record["outcomes"]))


if __name__ == "__main__":
    sys.exit(main())
