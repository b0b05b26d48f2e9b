"""The list of chapters, and what pages get from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bs4 import BeautifulSoup
from pybtex.database import parse_file, parse_string
from sphinx.errors import ExtensionError

from kexue_publish.chapters import bibtex_of_original, by_part, chapters_of, read_chapters

ROOT = Path(__file__).parents[2]
PARTS = {
    "front-matter": {"title": "Front matter", "teaser": "How to read."},
    "losses": {"title": "Losses", "teaser": "What a network is asked for."},
}
GUIDE = {
    "slug": "guide", "part": "front-matter", "title": "How to read", "title_zh": "浏览指南",
    "archive": 6508, "date": "2019-03-26", "teaser": "How sure? Seven grades.",
}  # fmt: skip
WRITTEN = GUIDE | {"slug": "softmax", "part": "losses", "archive": 7359, "title": "Many labels", "title_zh": "多标签"}
PLANNED = WRITTEN | {"slug": "accuracy", "archive": 9098, "title": "Train your accuracy", "title_zh": "训练准确率"}


def write_list(path: Path, *chapters: dict) -> Path:
    listed = yaml.safe_dump({"parts": PARTS, "chapters": list(chapters)}, allow_unicode=True, sort_keys=False)
    path.write_text(re.sub(r"date: '(.*)'", r"date: \1", listed), encoding="utf-8")
    return path


# --- the list ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chapters():
    return read_chapters(ROOT / "book" / "chapters.yml")


def test_the_book_has_forty_chapters_in_six_parts_and_a_front(chapters):
    assert len(chapters) == 40
    assert [len(part) for part in by_part(chapters).values()] == [1, 6, 5, 5, 11, 8, 4]


def test_parts_are_not_interleaved(chapters):
    order = [chapter.part.name for chapter in chapters]
    assert order == [part.name for part, inside in by_part(chapters).items() for _ in inside]


def test_front_matter_stands_in_the_books_folder_and_a_chapter_in_its_parts(chapters):
    pages = {chapter.slug: chapter.docname for chapter in chapters}
    assert pages["reading-guide"] == "book/reading-guide"
    assert pages["random-angles"] == "book/geometry-probability/random-angles"


def test_every_teaser_asks_and_answers_in_one_line(chapters):
    for chapter in chapters:
        question, _, answer = chapter.teaser.partition("?")
        assert question and len(answer.strip()) > 10, f"{chapter.slug}: {chapter.teaser}"
        assert len(chapter.teaser) <= 170 and "\n" not in chapter.teaser, f"{chapter.slug} is too long for one line"


def test_the_bibliography_holds_every_original_as_the_page_cites_it(chapters):
    book = parse_file(ROOT / "references.bib", bib_format="bibtex").entries
    for chapter in chapters:
        key = f"kexue{chapter.archive}"
        assert book[key] == parse_string(bibtex_of_original(chapter), "bibtex").entries[key], key


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"slug": None}, "slug is None, expected str"),
        ({"archive": "7359"}, "archive is '7359', expected int"),
        ({"date": "yesterday"}, "date is 'yesterday', expected date"),
        ({"part": "loss"}, r"part is 'loss', expected one of \['front-matter', 'losses'\]"),
        ({"color": "red"}, "has the fields .*'color'"),
        ({"slug": "guide"}, "slug 'guide' stands twice"),
        ({"archive": 6508}, "archive 6508 stands twice"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, spoiled, message):
    path = write_list(tmp_path / "chapters.yml", GUIDE, WRITTEN | spoiled)
    with pytest.raises(ValueError, match=message):
        read_chapters(path)


def test_a_build_without_a_readable_list_says_so(tmp_path):
    with pytest.raises(ExtensionError, match=r"cannot read the list of chapters: .*chapters\.yml"):
        chapters_of(SimpleNamespace(srcdir=tmp_path))


# --- pages ------------------------------------------------------------------------------------------------------------


CONF = """
extensions = ["myst_nb", "sphinx.ext.mathjax", "kexue_publish.chapters", "kexue_publish.ledger"]
html_title, author, copyright = "A book", "Somebody", "2026"
numfig, nb_execution_mode, exclude_patterns = True, "off", ["_build"]
kexue_description = "What the book is"
root_doc = "book/index"
html_theme = "sphinx_book_theme"
"""
PAGES = {
    "book/index.md": "# A book\n\n```{toctree}\nguide\nlosses/index\nlosses/softmax\n```\n\n```{part-cards}\n```\n",
    "book/guide.md": (
        "# How to read\n\n```{chapter-head}\n```\n\n```{chapter-map}\n```\n\n"
        "```{list-table} A table\n:name: first\n* - 1\n```\n\n{numref}`first`\n"
    ),
    "book/losses/index.md": "# Losses\n\n```{part-head}\n```\n\n```{part-map}\n```\n",
    "book/losses/softmax.md": (
        "# Many labels\n\n```{chapter-head}\n```\n\n"
        "```{list-table} A table\n:name: second\n* - 1\n```\n\n```{list-table} Another\n:name: third\n* - 1\n```\n\n"
        "{numref}`third`\n\n```{chapter-cite}\n```\n"
    ),
}


def build(folder: Path, pages: dict[str, str], base: str = "") -> subprocess.CompletedProcess:
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    pictures = folder / "book" / "_static" / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "losses.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    write_list(folder / "book" / "chapters.yml", GUIDE, WRITTEN, PLANNED)
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-n", "-q", str(folder), str(folder / "_build")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"KEXUE_BASE_URL": base, "GITHUB_REPOSITORY": "ada/engine"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, PAGES, base="https://example.org/book/")
    assert done.returncode == 0 and not done.stderr, done.stderr

    def page(name: str) -> BeautifulSoup:
        return BeautifulSoup((folder / "_build" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")

    return page


def test_the_head_credits_and_links_the_original(site):
    head = site("book/losses/softmax").select_one(".kx-head")
    title = head.select_one("[lang=zh-Hans]")
    assert title.text == "多标签" and title.a["href"] == "https://kexue.fm/archives/7359"
    assert "苏剑林 (Jianlin Su), 26 March 2019 · Losses" in head.text


def test_the_map_links_what_is_written_and_marks_what_is_planned(site):
    written, planned = site("book/guide").select(".kx-map li")[1:]
    assert written.a["href"] == "losses/softmax.html" and "planned" not in written.text
    assert not planned.select("a") and planned.select_one(".kx-planned").text == "planned"
    assert planned.select_one("[lang=zh-Hans]").text == "训练准确率"
    assert all(item.select_one(".kx-map-teaser").text == "How sure? Seven grades." for item in (written, planned))


def test_a_card_leads_to_the_page_of_its_part(site):
    [card] = site("book/index").select(".kx-card")
    assert card.a["href"] == "losses/index.html"
    assert card.img["alt"] == "" and card.select_one(".kx-card-progress").text == "1 of 2 chapters"


def test_the_page_of_a_part_says_what_it_is_about_and_lists_its_chapters_only(site):
    page = site("book/losses/index")
    assert [line.text for line in page.select(".kx-head p")[:2]] == [PARTS["losses"]["teaser"], "1 of 2 chapters"]
    assert [item.select_one("[lang=zh-Hans]").text for item in page.select(".kx-map li")] == ["多标签", "训练准确率"]


def test_the_card_of_a_part_without_a_page_leads_to_the_map(tmp_path):
    index = PAGES["book/index.md"].replace("losses/index\n", "")
    pages = {name: text for name, text in PAGES.items() if name != "book/losses/index.md"}
    assert build(tmp_path, pages | {"book/index.md": index}).returncode == 0
    card, page = (
        BeautifulSoup((tmp_path / f"_build/book/{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "guide")
    )
    assert card.select_one(".kx-card").a["href"] == "guide.html#part-losses"
    assert page.find(id="part-losses").text.startswith("Losses")


def test_a_map_on_a_page_that_is_no_part_says_what_to_do(tmp_path):
    done = build(tmp_path, PAGES | {"book/guide.md": "# How to read\n\n```{part-map}\n```\n"})
    assert "'book/guide', which is the page of no part of book/chapters.yml" in done.stderr


def test_original_chapter_and_book_can_be_cited(site):
    blocks = [block.text for block in site("book/losses/softmax").select(".highlight-bibtex")]
    keys = [next(iter(parse_string(block, "bibtex").entries)) for block in blocks]
    assert keys == ["kexue7359", "derivations-softmax", "derivations"]
    assert "https://example.org/book/book/losses/softmax.html" in blocks[1]


def test_tables_are_counted_from_one_on_every_page(site):
    assert site("book/guide").select_one("a .std-numref").text == "Table 1"
    assert site("book/losses/softmax").select_one("a .std-numref").text == "Table 2"


def test_a_shared_link_shows_the_question_and_our_picture(site):
    tags = {tag["property"]: tag["content"] for tag in site("book/losses/softmax").select("meta[property]")}
    assert tags["og:title"] == "Many labels" and tags["og:description"] == "How sure? Seven grades."
    assert tags["og:image"] == "https://example.org/book/_static/pictures/social.png"
    assert tags["og:url"] == "https://example.org/book/book/losses/softmax.html"


def test_without_a_known_home_no_address_is_invented(tmp_path):
    assert build(tmp_path, PAGES).returncode == 0
    page = BeautifulSoup((tmp_path / "_build/book/losses/softmax.html").read_text(encoding="utf-8"), "html.parser")
    assert not page.select("meta[property='og:url']")
    assert page.select_one("meta[property='og:image']")["content"] == "../../_static/pictures/social.png"
    assert (
        "url"
        not in parse_string(page.select(".highlight-bibtex")[1].text, "bibtex").entries["derivations-softmax"].fields
    )


def test_a_head_on_a_page_that_is_no_chapter_says_what_to_do(tmp_path):
    done = build(tmp_path, PAGES | {"book/index.md": "# A book\n\n```{chapter-head}\n```\n"})
    assert "'book/index', which is no chapter of book/chapters.yml; add the chapter there" in done.stderr
