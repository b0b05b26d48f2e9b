"""What every chapter gets from the one list of chapters, ``book/chapters.yml``.

``{chapter-head}``   under a chapter's title: the original with its author and date, the part, what is proved on the page
``{chapter-map}``    all forty chapters by part, written and planned
``{part-head}``      under the title of a part's own page: what the part is about, and how much of it is written
``{part-map}``       the chapters of the part whose page it is
``{part-cards}``     the parts with a picture each, leading to their pages, or to the map where a part has none
``{chapter-cite}``   BibTeX of the original, of this chapter and of the book

Besides: numbers of figures and exercises start anew on every page, and pages say what they are when they are shared.
"""

from __future__ import annotations

import datetime
import html
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from kexue_publish.launch import buttons
from kexue_publish.ledger import LedgerCounts

LIST = "book/chapters.yml"
FRONT = "front-matter"
PICTURES = "book/_static/pictures"
SOCIAL = "_static/pictures/social.png"
FIELDS = {"slug": str, "part": str, "title": str, "title_zh": str, "archive": int, "date": datetime.date, "teaser": str}


@dataclass(frozen=True)
class Part:
    """A part of the book: its folder under ``book/``, its title, and one line that says what it is about."""

    name: str
    title: str
    teaser: str

    @property
    def docname(self) -> str:
        """The part's own page, as Sphinx names it; front matter has none."""
        return f"book/{self.name}/index"


@dataclass(frozen=True)
class Chapter:
    """One article of the blog and its page in the book."""

    slug: str
    part: Part
    title: str
    title_zh: str
    archive: int
    date: datetime.date
    teaser: str

    @property
    def docname(self) -> str:
        """The page, as Sphinx names it; front matter stands directly in ``book/``."""
        return f"book/{self.slug}" if self.part.name == FRONT else f"book/{self.part.name}/{self.slug}"

    @property
    def original(self) -> str:
        """Address of the original article."""
        return f"https://kexue.fm/archives/{self.archive}"

    @property
    def day(self) -> str:
        """The date of the original in words, as in *13 November 2019*."""
        return f"{self.date.day} {self.date:%B %Y}"


def read_chapters(path: Path) -> list[Chapter]:
    """Read the list of chapters, in reading order.

    Parameters
    ----------
    path
        A YAML file with ``parts`` (name: title and teaser) and ``chapters`` (a list with the fields of `Chapter`).

    Raises
    ------
    ValueError
        A field is missing, unknown or of the wrong type, a part is not declared, or a slug or article stands twice.
    """
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = {name: Part(name, **about) for name, about in listed["parts"].items()}
    chapters: list[Chapter] = []
    for entry in listed["chapters"]:
        name = f"{path.name}: chapter {entry.get('slug', len(chapters) + 1)!r}"
        if entry.keys() != FIELDS.keys():
            raise ValueError(f"{name} has the fields {sorted(entry)}, expected {sorted(FIELDS)}")
        for field, kind in FIELDS.items():
            if not isinstance(entry[field], kind):
                raise ValueError(f"{name}: {field} is {entry[field]!r}, expected {kind.__name__}")
        if entry["part"] not in parts:
            raise ValueError(f"{name}: part is {entry['part']!r}, expected one of {sorted(parts)}")
        chapters.append(Chapter(**entry | {"part": parts[entry["part"]]}))
    for field in ("slug", "archive"):
        values = [getattr(chapter, field) for chapter in chapters]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"{path.name}: {field} {twice[0]!r} stands twice, expected once")
    return chapters


def by_part(chapters: Iterable[Chapter]) -> dict[Part, list[Chapter]]:
    """The chapters of each part, parts and chapters in reading order."""
    parts: dict[Part, list[Chapter]] = {}
    for chapter in chapters:
        parts.setdefault(chapter.part, []).append(chapter)
    return parts


@cache
def _read_once(path: Path, modified: int) -> list[Chapter]:
    return read_chapters(path)


def chapters_of(env: BuildEnvironment) -> list[Chapter]:
    """The chapters of the book that is being built; an `ExtensionError` says what is wrong with the list."""
    path = Path(env.srcdir) / LIST
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise ExtensionError(f"cannot read the list of chapters: {error}") from error


def bibtex_of_original(chapter: Chapter) -> str:
    """BibTeX of the article, under the key that the book's own bibliography uses.

    Examples
    --------
    >>> day = datetime.date(2019, 11, 13)
    >>> print(bibtex_of_original(Chapter("a", None, "Angles", "夹角", 7076, day, "Why?")))
    @misc{kexue7076,
      author = {Su, Jianlin},
      title = {{夹角}},
      year = {2019},
      month = nov,
      howpublished = {Scientific Spaces (科学空间)},
      url = {https://kexue.fm/archives/7076}
    }
    """
    return _bibtex(
        f"misc{{kexue{chapter.archive}",
        author="{Su, Jianlin}",
        title=f"{{{{{chapter.title_zh}}}}}",
        year=f"{{{chapter.date.year}}}",
        month=f"{chapter.date:%b}".lower(),
        howpublished="{Scientific Spaces (科学空间)}",
        url=f"{{{chapter.original}}}",
    )


def _bibtex(head: str, **fields: str | None) -> str:
    lines = [f"  {name} = {value}" for name, value in fields.items() if value]
    return f"@{head},\n" + ",\n".join(lines) + "\n}"


def address_of(config: Config, docname: str) -> str | None:
    """The public address of a page, or None as long as nobody has said where the book will be."""
    return f"{config.html_baseurl.rstrip('/')}/{docname}.html" if config.html_baseurl else None


# --- directives -------------------------------------------------------------------------------------------------------


class chinese(nodes.inline):
    """Text in Chinese: `lang` lets browsers choose the glyphs and screen readers the voice."""


def _visit_chinese(translator: Any, node: chinese) -> None:
    translator.body.append(translator.starttag(node, "span", "", lang="zh-Hans"))


def _depart_chinese(translator: Any, node: chinese) -> None:
    translator.body.append("</span>")


class chinese_title(nodes.title):
    """The original's title under ours: to the search it is a second title of the page, which puts the page first."""


def _visit_chinese_title(translator: Any, node: chinese_title) -> None:
    translator.body.append(translator.starttag(node, "p", "", lang="zh-Hans", CLASS="kx-original"))


def _depart_chinese_title(translator: Any, node: chinese_title) -> None:
    translator.body.append("</p>\n")


def _link(text: str, address: str) -> nodes.reference:
    return nodes.reference(text, text, refuri=address, internal=False)


def _page_link(docname: str, text: str) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "",
        nodes.inline(text, text, classes=["doc"]),
        refdomain="std",
        reftype="doc",
        reftarget=f"/{docname}",
        refexplicit=True,
        refwarn=True,
    )


def _label_link(label: str, text: str) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "",
        nodes.inline(text, text),
        refdomain="std",
        reftype="ref",
        reftarget=label,
        refexplicit=True,
        refwarn=True,
    )


class _ChapterDirective(SphinxDirective):
    """A directive that knows the list of chapters and its own page."""

    def chapter(self) -> Chapter:
        for chapter in chapters_of(self.env):
            if chapter.docname == self.env.docname:
                return chapter
        raise self.error(
            f"{{{self.name}}} stands on the page {self.env.docname!r}, which is no chapter of {LIST}; "
            "add the chapter there, or move the page to book/<part>/<slug>.md"
        )

    def progress(self, chapters: list[Chapter]) -> str:
        return _progress(sum(chapter.docname in self.env.found_docs for chapter in chapters), len(chapters))


class ChapterHead(_ChapterDirective):
    """Directive ``{chapter-head}``: stands right under a chapter's title."""

    def run(self) -> list[nodes.Node]:
        chapter = self.chapter()
        original = chinese_title("", "", _link(chapter.title_zh, chapter.original))
        credit = nodes.paragraph("", "", classes=["kx-credit"])
        credit += nodes.Text("after ")
        credit += chinese("", "苏剑林")
        credit += nodes.Text(f" (Jianlin Su), {chapter.day} · {chapter.part.title}")
        counts, launch = LedgerCounts(chapter=chapter.docname), buttons(self.config, chapter.docname)
        return [nodes.container("", original, credit, counts, launch, classes=["kx-head"])]


class _MapDirective(_ChapterDirective):
    """A directive that lists chapters; the planned ones are not links."""

    def listed(self, chapters: Iterable[Chapter]) -> nodes.bullet_list:
        return nodes.bullet_list("", *map(self.item, chapters), classes=["kx-map"])

    def item(self, chapter: Chapter) -> nodes.list_item:
        written = chapter.docname in self.env.found_docs
        line = nodes.paragraph("", "", classes=["kx-map-title"])
        line += _page_link(chapter.docname, chapter.title) if written else nodes.inline("", chapter.title)
        line += [nodes.Text(" "), chinese("", chapter.title_zh)]
        if not written:
            line += [nodes.Text(" "), nodes.inline("", "planned", classes=["kx-planned"])]
        about = nodes.paragraph("", chapter.teaser, classes=["kx-map-teaser"])
        counts = [LedgerCounts(chapter=chapter.docname)] if written else []
        return nodes.list_item("", line, about, *counts, classes=["kx-written" if written else "kx-unwritten"])


class ChapterMap(_MapDirective):
    """Directive ``{chapter-map}``: every chapter of the book."""

    def run(self) -> list[nodes.Node]:
        result: list[nodes.Node] = []
        for part, chapters in by_part(chapters_of(self.env)).items():
            name = f"part-{part.name}"
            heading = nodes.rubric("", part.title, ids=[name])
            # The card of a part without a page of its own leads here.
            cast(StandardDomain, self.env.get_domain("std")).note_hyperlink_target(
                name, self.env.docname, name, part.title
            )
            result += [heading, self.listed(chapters)]
        return result


class _PartDirective(_MapDirective):
    """A directive that stands on the page of a part."""

    def part(self) -> tuple[Part, list[Chapter]]:
        for part, chapters in by_part(chapters_of(self.env)).items():
            if part.docname == self.env.docname:
                return part, chapters
        raise self.error(
            f"{{{self.name}}} stands on the page {self.env.docname!r}, which is the page of no part of {LIST}: "
            "that is book/<part>/index.md"
        )


class PartHead(_PartDirective):
    """Directive ``{part-head}``: stands right under the title of a part's page."""

    def run(self) -> list[nodes.Node]:
        part, chapters = self.part()
        teaser = nodes.paragraph("", part.teaser, classes=["kx-original"])
        credit = nodes.paragraph("", self.progress(chapters), classes=["kx-credit"])
        return [nodes.container("", teaser, credit, buttons(self.config, part.docname), classes=["kx-head"])]


class PartMap(_PartDirective):
    """Directive ``{part-map}``: the chapters of the part, in reading order."""

    def run(self) -> list[nodes.Node]:
        return [self.listed(self.part()[1])]


class PartCards(_ChapterDirective):
    """Directive ``{part-cards}``: the parts of the book with a picture each, leading to their pages."""

    def run(self) -> list[nodes.Node]:
        cards = []
        for part, chapters in by_part(chapters_of(self.env)).items():
            if part.name == FRONT:
                continue
            leads = part.docname in self.env.found_docs
            link = _page_link(part.docname, part.title) if leads else _label_link(f"part-{part.name}", part.title)
            # The words say everything; the picture is there to be looked at.
            cards.append(
                nodes.container(
                    "",
                    nodes.image("", uri=f"/{PICTURES}/{part.name}.svg", alt="", classes=["kx-drawing"]),
                    nodes.paragraph("", "", link, classes=["kx-card-title"]),
                    nodes.paragraph("", part.teaser, classes=["kx-card-teaser"]),
                    nodes.paragraph("", self.progress(chapters), classes=["kx-card-progress"]),
                    classes=["kx-card"],
                )
            )
        return [nodes.container("", *cards, classes=["kx-cards"])]


def _progress(written: int, planned: int) -> str:
    """How much of a part there is.

    Examples
    --------
    >>> _progress(0, 4), _progress(1, 6), _progress(6, 6)
    ('4 chapters planned', '1 of 6 chapters', '6 chapters')
    """
    if written == 0:
        return f"{planned} chapters planned"
    return f"{written} of {planned} chapters" if written < planned else f"{planned} chapters"


class ChapterCite(_ChapterDirective):
    """Directive ``{chapter-cite}``: three BibTeX entries, each with its copy button."""

    def run(self) -> list[nodes.Node]:
        chapter, config = self.chapter(), self.config
        book = {"author": "{{" + config.author + "}}", "year": "{" + config.copyright + "}"}
        entries = {
            "The original article": bibtex_of_original(chapter),
            "This chapter": _bibtex(
                f"incollection{{derivations-{chapter.slug}",
                title=f"{{{{{chapter.title}}}}}",
                booktitle=f"{{{{{config.html_title}}}}}",
                url=_braced(address_of(config, chapter.docname)),
                **book,
            ),
            "The whole book": _bibtex(
                "book{derivations",
                title=f"{{{{{config.html_title}}}}}",
                url=_braced(address_of(config, config.root_doc)),
                **book,
            ),
        }
        return [node for name, entry in entries.items() for node in (nodes.rubric("", name), _code(entry))]


def _braced(value: str | None) -> str | None:
    return value and f"{{{value}}}"


def _code(entry: str) -> nodes.literal_block:
    return nodes.literal_block(entry, entry, language="bibtex")


# --- numbers and previews ---------------------------------------------------------------------------------------------


def number_by_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Count figures, tables, theorems and exercises from 1 on each page: pages come and go, a number must not move."""
    for kinds in env.toc_fignumbers.values():
        for numbered in kinds.values():
            # Sphinx has counted through the whole book; the order within a page is right.
            for count, label in enumerate(sorted(numbered, key=numbered.__getitem__), start=1):
                numbered[label] = (count,)
    return []


def _set_base_url(app: Sphinx, config: Config) -> None:
    config.html_baseurl = config.html_baseurl or os.environ.get("KEXUE_BASE_URL", "")


def preview_tags(config: Config, page: str, chapter: Chapter | None, picture: str) -> str:
    """What a link to a page shows in a chat or a feed: title, one line, our own picture."""
    description = chapter.teaser if chapter else config.kexue_description
    properties = {
        "og:type": "article" if chapter else "website",
        "og:site_name": config.html_title,
        "og:title": chapter.title if chapter else config.html_title,
        "og:description": description,
        "og:image": picture,
        "og:image:alt": config.kexue_description,
        "og:url": address_of(config, page),
    }
    tags = [f'<meta property="{name}" content="{html.escape(value)}" />' for name, value in properties.items() if value]
    tags.append(f'<meta name="description" content="{html.escape(description)}" />')
    tags.append('<meta name="twitter:card" content="summary_large_image" />')
    return "\n".join(tags) + "\n"


def _picture(config: Config, relative: str) -> str:
    # Readers of these tags want a full address; without a known home only the relative one is true.
    return f"{config.html_baseurl.rstrip('/')}/{SOCIAL}" if config.html_baseurl else relative


def _add_preview(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    pathto: Callable[..., str] = context["pathto"]
    chapter = next((chapter for chapter in chapters_of(app.env) if chapter.docname == page), None)
    picture = _picture(app.config, pathto(SOCIAL, 1))
    context["metatags"] = f"{context.get('metatags', '')}\n{preview_tags(app.config, page, chapter, picture)}"


DOOR = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={front}" />
<link rel="icon" href="{icon}" />
{tags}</head>
<body><p><a href="{front}">{title}</a></p></body>
</html>
"""


def _write_door(app: Sphinx, error: Exception | None) -> None:
    """The site's own address leads to the front page, and shows what it is when it is shared."""
    if error is not None or app.builder.name != "html" or app.config.root_doc == "index":
        return
    front = f"{app.config.root_doc}.html"
    icon = f"_static/{Path(app.config.html_favicon or '').name}"
    tags = preview_tags(app.config, app.config.root_doc, None, _picture(app.config, SOCIAL))
    door = DOOR.format(title=html.escape(app.config.html_title), front=front, icon=icon, tags=tags)
    (Path(app.outdir) / "index.html").write_text(door, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the two adjustments."""
    app.setup_extension("kexue_publish.launch")
    app.add_config_value("kexue_description", "", "html", types=(str,))
    app.add_node(chinese, html=(_visit_chinese, _depart_chinese))
    app.add_node(chinese_title, html=(_visit_chinese_title, _depart_chinese_title))
    app.add_directive("chapter-head", ChapterHead)
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("part-head", PartHead)
    app.add_directive("part-map", PartMap)
    app.add_directive("part-cards", PartCards)
    app.add_directive("chapter-cite", ChapterCite)
    app.connect("config-inited", _set_base_url)
    # After Sphinx's own numbering, which listens to the same event.
    app.connect("env-get-updated", number_by_page, priority=900)
    app.connect("html-page-context", _add_preview)
    # After the redirection that sphinx_external_toc writes.
    app.connect("build-finished", _write_door, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
