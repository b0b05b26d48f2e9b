"""Whose work a reader has before them, and on which terms."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from conftest import PAGES, SITE

from kexue_publish.chapters import Chapter, read_chapters
from kexue_publish.licences import WORKS, works_in

ROOT = SITE.parents[1]
PAGE = "book/licences.html"
CHAPTERS = [chapter for chapter in read_chapters(ROOT / "book" / "chapters.yml") if f"{chapter.docname}.html" in PAGES]
OURS = {path.name for path in (ROOT / "book" / "_static").iterdir()}
STATIC = SITE / "_static"


def parsed(path: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / path).read_text("utf-8"), "html.parser")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_every_chapter_names_its_article_and_author_and_links_to_it(chapter: Chapter):
    head = parsed(f"{chapter.docname}.html").select_one(".kx-head")
    assert head.find("a", href=chapter.original).text == chapter.title_zh
    assert "苏剑林 (Jianlin Su)" in head.select_one(".kx-credit").text


@pytest.mark.parametrize("path", PAGES)
def test_every_page_leads_to_the_licences(path):
    links = [
        (SITE / path).parent.joinpath(link["href"]).resolve()
        for link in parsed(path).select(".bd-footer-content a[href$='licences.html'], .bd-footer-content a[href='#']")
    ]
    assert SITE / PAGE in links or (path == PAGE and links)


def test_every_script_style_and_font_has_its_licence():
    kinds = {".js", ".css", ".woff", ".woff2", ".ttf", ".otf", ".eot"}
    files = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in kinds]
    assert len(files) > 20
    assert [file for file in files if not works_in(file) and file not in OURS] == []
    # What stands beside the folder is ours: the index of the search, and the evidence.
    beside = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.suffix in kinds}
    assert {path for path in beside if not path.startswith(("_static/", "_evidence/"))} == {"searchindex.js"}


def test_no_licence_is_listed_for_something_that_is_not_there():
    files = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert [work.name for work in WORKS if not any(work in works_in(file) for file in files)] == []


def test_the_page_has_all_of_them_and_is_light():
    page, text = parsed(PAGE), (SITE / PAGE).read_text("utf-8")
    assert len(text.encode()) <= 300_000
    files, packages = page.select(".bd-article table")
    assert [row.td.a.text for row in files.select("tbody tr")] == [work.name for work in WORKS]
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text("utf-8"), flags=re.M)
    assert {row.td.a.text for row in packages.select("tbody tr")} == set(pins)
    assert all(cell.text.strip() for cell in page.select(".bd-article td"))
    assert "Copyright (c) 2026 the contributors" in page.text
    assert {"CC BY-NC-SA", "CC BY-NC-ND"} <= {link.text for link in page.select(".bd-article a")}
