"""The structure that every chapter has, read from the sources. Nothing is executed here."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

from kexue_publish.chapters import Chapter, read_chapters

ROOT = Path(__file__).parents[2]
CHAPTERS = read_chapters(ROOT / "book" / "chapters.yml")
WRITTEN = [chapter for chapter in CHAPTERS if (ROOT / f"{chapter.docname}.md").is_file()]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
LISTED = [page["file"] for part in TOC["parts"] for page in part["chapters"]]
PARTS = {chapter.part for chapter in CHAPTERS if chapter.docname != f"book/{chapter.slug}"}
every_part = pytest.mark.parametrize("part", sorted(PARTS, key=str), ids=lambda part: part.name)
every_chapter = pytest.mark.parametrize("chapter", WRITTEN, ids=lambda chapter: chapter.slug)


def source(chapter: Chapter) -> str:
    return (ROOT / f"{chapter.docname}.md").read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """The lines that are neither header nor code; a directive other than code holds text, and may hold code again."""
    kept, fences, shown = [], [], True
    for line in re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).splitlines():
        fence = re.match(r"\s*(`{3,}|~{3,})\s*(.*)", line)
        if fence and fences and not fence[2] and fence[1].startswith(fences[-1]):
            fences.pop()
            shown = True
        elif fence and shown:
            fences.append(fence[1])
            shown = bool(re.match(r"\{(?!code|literalinclude)", fence[2]))
        elif shown:
            kept.append(line)
    return "\n".join(kept)


def without_formulas(text: str) -> str:
    return re.sub(r"\$\$.*?\$\$|(?<!\\)\$[^$]*\$|(`+).*?\1", "", text, flags=re.DOTALL)


def labels(text: str) -> list[str]:
    text = without_code(text)
    return re.findall(r"\$\$ *\(([^)\s]+)\)$", text, flags=re.MULTILINE) + re.findall(
        r"^:label:\s*(eq-\S+)", text, flags=re.MULTILINE
    )


def test_every_written_chapter_is_in_the_table_of_contents():
    assert [chapter.docname for chapter in WRITTEN if chapter.docname not in LISTED] == []


def test_the_table_of_contents_lists_only_what_exists():
    assert [page for page in [TOC["root"], *LISTED] if not (ROOT / f"{page}.md").is_file()] == []


def test_every_page_of_a_part_is_a_known_chapter():
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "book").glob("[a-z]*/*.md")}
    assert pages <= {page.docname for chapter in CHAPTERS for page in (chapter, chapter.part)}


@every_part
def test_a_part_has_a_page_that_opens_it_lists_its_chapters_and_moves(part):
    [pages] = (
        [page["file"] for page in listed["chapters"]] for listed in TOC["parts"] if listed["caption"] == part.title
    )
    assert pages[0] == part.docname
    text = (ROOT / f"{part.docname}.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert re.match(rf"# {part.title}\n\n(`{{3,}})\{{part-head\}}\n\1", text.strip())
    assert "{part-map}" in text and len(re.findall(r"^explore\(", text, flags=re.MULTILINE)) == 1


def test_chapters_stand_in_reading_order_under_their_part():
    order = [chapter.docname for chapter in CHAPTERS if chapter.docname in LISTED]
    assert [page for page in LISTED if page in order] == order
    titles = {chapter.docname: chapter.part.title for chapter in CHAPTERS}
    for part in TOC["parts"]:
        assert {titles.get(page["file"], part["caption"]) for page in part["chapters"]} == {part["caption"]}


def test_equation_labels_are_unique_in_the_whole_book():
    counts = Counter(label for chapter in WRITTEN for label in labels(source(chapter)))
    assert [label for label, count in counts.items() if count > 1] == []


@every_chapter
def test_a_chapter_is_a_notebook_for_python(chapter):
    header = yaml.safe_load(source(chapter).split("---\n")[1])
    assert header["kernelspec"]["name"] == "python3"
    assert header["jupytext"]["text_representation"]["format_name"] == "myst"


@every_chapter
def test_a_chapter_has_its_title_and_below_it_its_head(chapter):
    after_header = source(chapter).split("---\n", 2)[2].strip()
    title, _, rest = after_header.partition("\n")
    assert title == f"# {chapter.title}"
    assert re.match(r"(`{3,}|:{3,})\{chapter-head\}\n\1", rest.strip())


@every_chapter
def test_a_chapter_cites_its_original_and_lists_its_references(chapter):
    text = source(chapter)
    assert f"kexue{chapter.archive}" in text
    assert "{bibliography}" in text
    keys = {key.strip() for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text) for key in keys.split(",")}
    assert keys <= set(parse_file(ROOT / "references.bib", bib_format="bibtex").entries)


@every_chapter
def test_equation_labels_start_with_eq(chapter):
    assert [label for label in labels(source(chapter)) if not label.startswith("eq-")] == []


@every_chapter
def test_a_chapter_plays_with_a_slider_and_checks_something(chapter):
    text = source(chapter)
    assert "explore(" in text
    assert re.search(r"\b(prove|exact|numeric|sampled|measured)\(", text)


@every_chapter
def test_a_chapter_has_exercises_each_with_its_solution(chapter):
    asked = re.findall(r"```\{exercise\}\n:label: (\S+)", source(chapter))
    answered = re.findall(r"```\{solution(?:-start)?\} (\S+)", source(chapter))
    assert asked == answered != []


@every_chapter
def test_a_chapter_has_no_raw_html_and_no_numbers_by_hand(chapter):
    assert re.findall(r"</?[a-zA-Z][\w-]*(?:\s[^>\n]*)?/?>", without_formulas(without_code(source(chapter)))) == []
    assert r"\tag" not in re.sub(r"`[^`]*`", "", source(chapter))


@every_chapter
def test_pictures_in_the_text_have_words(chapter):
    assert re.findall(r"!\[\s*\]\(", source(chapter)) == []


@every_chapter
def test_what_is_refuted_is_announced_as_false(chapter):
    text = source(chapter)
    blocks = re.findall(r"^\$\$\n((?:(?!\$\$).)*?)\n\$\$ \(([^)\s]+)\)", text, flags=re.DOTALL | re.MULTILINE)
    begun = {name for formula, name in blocks if re.match(r"(\\begin\{\w+\}\s*)?&?\s*\\text\{\(false\)\}", formula)}
    marked = {name for formula, name in blocks if "(false)" in formula}
    assert begun == marked == set(re.findall(r"\brefute\(\s*\"(eq-[^\"]+)\"", text))


@every_chapter
def test_badges_name_no_equation_by_its_number(chapter):
    """Numbers change when an equation is added; names in ``using=`` do not."""
    texts = re.findall(r"\b(?:step|why)=f?\"([^\"]*)\"|\bdefine\(\s*\"[^\"]+\",\s*\"([^\"]*)\"", source(chapter))
    assert [words for pair in texts for words in pair if re.search(r"(?<![\w^!)])\(\d{1,3}\)(?!\w)", words)] == []
