"""Two builds from nothing, in two folders and as if on two machines, give the same text and the same ledger, times aside.

The small book in every run of the tests; the whole book, as `make book` left it and from nothing in another folder, for which
two cores take a quarter of an hour:

    .venv/bin/pytest -m cold tests/publish/test_reproducible.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jupyter_cache import get_cache
from small_book import ROOT, SmallBook

EVIDENCE = "application/vnd.kexue.evidence+json"
FRAMES = "application/vnd.kexue.frames+json"
CPU = np._core._multiarray_umath
OTHER_MACHINE = {
    # Another user.
    "LC_ALL": "C",
    "TZ": "Asia/Kathmandu",
    "PYTHONHASHSEED": "12345",
    "OMP_NUM_THREADS": "2",
    # A CPU without AVX and fused multiplication, which every library is told in words of its own.
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in CPU.__cpu_dispatch__ if CPU.__cpu_features__.get(f, True)),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX",
}


def texts(folder: Path) -> dict[str, list[Any]]:
    """What every chapter prints: all outputs but pictures, and evidence without its seconds."""
    store = get_cache(folder / "_build/.jupyter_cache")
    pages = {}
    for record in sorted(
        store.list_cache_records(), key=lambda record: record.created
    ):  # the newest of each chapter stays
        cells = store.get_cache_bundle(record.pk).nb.cells
        pages[record.uri] = [text_of(output) for cell in cells for output in cell.get("outputs", ())]
    return pages


def text_of(output: dict[str, Any]) -> Any:
    if "data" not in output:
        return output.get("text")
    data = {mime: content for mime, content in output["data"].items() if not mime.startswith("image/")}
    if EVIDENCE in data:
        data[EVIDENCE] = {name: value for name, value in data[EVIDENCE].items() if name != "seconds"}
    if FRAMES in data:
        data[FRAMES] = {name: value for name, value in data[FRAMES].items() if name != "images"}
    return data


def test_two_builds_of_a_small_book_are_the_same(tmp_path: Path) -> None:
    one, two = SmallBook(tmp_path / "one"), SmallBook(tmp_path / "two words")
    one.build()
    two.build(**OTHER_MACHINE)
    assert len(texts(one.folder)) == 3
    assert texts(one.folder) == texts(two.folder)
    assert one.ledger() == two.ledger()
    assert one.files().keys() == two.files().keys()


@pytest.mark.cold
def test_the_whole_book_prints_the_same_in_another_folder_as_if_on_another_machine(tmp_path: Path) -> None:
    other = tmp_path / "two words"
    for part in ("book", "kexue_utils", "kexue_publish"):
        shutil.copytree(ROOT / part, other / part)
    for part in ("_toc.yml", "_config.yml", "requirements.txt"):
        shutil.copy(ROOT / part, other)
    for folder, environment in ((ROOT, {}), (other, OTHER_MACHINE)):
        environment = os.environ | environment | {"PYTHONPATH": str(folder)}
        subprocess.run([sys.executable, "-m", "kexue_publish.execute"], cwd=folder, env=environment, check=True)
    here, there = (texts(folder) for folder in (ROOT, other))
    assert here.keys() == there.keys()
    assert [page for page in here if here[page] != there[page]] == []
