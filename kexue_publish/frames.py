"""Turn the frames that `kexue_utils.explore` put into a cell's output into a figure with native controls.

Two halves. `FramesRenderer` (a myst-nb MIME renderer, declared as entry point ``myst_nb.mime_renderers``) makes a
docutils node from the output, with one image child a frame: Sphinx then copies, names and tracks the files as it
does for any image. `setup` (a Sphinx extension) writes that node as HTML, and for every other builder as the start
frame with its caption.

No setting is needed for the renderer to win over the ``image/png`` in the same output: myst-nb reads
``mime_priority_overrides`` from the renderer class. ``nb_mime_priority_overrides`` in the configuration still has the
last word.

The page needs ``explore.js`` and ``explore.css`` from `html_static_path`. Without JavaScript it shows the start frame.
"""

import base64
import hashlib
import io
import json
from html import escape
from typing import Any, ClassVar
from urllib.parse import quote

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from PIL import Image
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

# Not imported from kexue_utils.explore: this package knows outputs by their MIME type only.
MIME = "application/vnd.kexue.frames+json"

PAGE_BUDGET = 1_500_000  # bytes of all frames on one page

logger = logging.getLogger(__name__)


class explore_figure(nodes.General, nodes.Element):
    """A figure with controls. Children: one `frame_image` a picture, then a `nodes.image` of the start frame for
    builders that are not HTML, then the caption as a paragraph, if there is one."""


class frame_image(nodes.image):
    """One picture of an `explore_figure`, here so that Sphinx copies its file."""


class FramesRenderer:
    """Make an `explore_figure` from an output of MIME type ``application/vnd.kexue.frames+json``."""

    mime_priority_overrides: ClassVar = [("*", MIME, 1)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The nodes for one output; None for other MIME types (see `myst_nb.core.render.MimeRenderPlugin`)."""
        if data.mime_type != MIME or inline:
            return None
        content = data.content
        start = 0
        for slider in content["sliders"]:
            start = start * len(slider["values"]) + slider["start"]
        figure = explore_figure(
            width=content["width"],
            height=content["height"],
            sliders=content["sliders"],
            frames=content["frames"],
            start=start,
            key=f"kx-{data.cell_index}-{data.output_index}",
        )
        figure.line, figure.source = data.line, renderer.source

        def write(picture: bytes, extension: str) -> str:
            name = hashlib.sha256(picture).hexdigest()[:20] + extension
            return renderer.write_file([name], picture, exists_ok=True)

        pictures = [base64.b64decode(image) for image in content["images"]]
        for picture in pictures:
            figure += frame_image(uri=write(picture, ".webp"), size=len(picture))
        first = content["frames"][start]
        png = io.BytesIO()
        Image.open(io.BytesIO(pictures[first["image"]])).save(png, "PNG")  # WebP is for browsers only
        figure += nodes.image(uri=write(png.getvalue(), ".png"), alt=first["alt"], width=f"{content['width']}px")
        if content["caption"]:
            figure += _parse_paragraph(renderer.renderer, content["caption"], data.line)
        return [figure]


def _parse_paragraph(markdown: Any, text: str, line: int) -> nodes.paragraph:
    parsed = nodes.Element()
    with markdown.current_node_context(parsed):
        markdown.nested_render_text(text, line)
    if len(parsed) != 1 or not isinstance(parsed[0], nodes.paragraph):
        raise ValueError(f"the caption of explore must be one paragraph; got {text!r}")
    return parsed[0]


def check_page_budget(app: Sphinx, doctree: nodes.document) -> None:
    """Warn, which stops a build with ``-W``, when the frames of a page are heavier than `PAGE_BUDGET`."""
    weights = {picture["uri"]: picture["size"] for picture in doctree.findall(frame_image)}
    if (total := sum(weights.values())) > PAGE_BUDGET:
        each = ", ".join(
            f"line {figure.line}: {sum(picture['size'] for picture in figure.findall(frame_image)):,}"
            for figure in doctree.findall(explore_figure)
        )
        logger.warning(
            f"the frames of this page weigh {total:,} bytes, over the budget of {PAGE_BUDGET:,} ({each}): "
            "give its sliders fewer steps",
            location=app.env.docname,
            type="kexue",
            subtype="frames",
        )


class StartFrameElsewhere(SphinxPostTransform):
    """In HTML drop the picture meant for other builders, elsewhere everything but that picture and the caption."""

    default_priority = 20  # after myst-nb has picked the output of this builder, before images are converted

    def run(self, **kwargs: Any) -> None:
        # An e-book is HTML but without our script.
        interactive = self.app.builder.format == "html" and self.app.builder.name != "epub"
        for figure in list(self.document.findall(explore_figure)):
            still = next(child for child in figure if type(child) is nodes.image)
            if interactive:
                figure.remove(still)
                continue
            captions = list(figure.findall(nodes.paragraph))
            if captions and not isinstance(figure.parent, nodes.figure):
                plain = nodes.figure("", still, nodes.caption("", "", *captions[0].children))
                figure.replace_self(plain)
            else:
                figure.replace_self([still, *captions])


def visit_explore_figure(translator: Any, node: explore_figure) -> None:
    """Open the figure: picture, controls, line of text, data; the caption's children follow."""
    files = [translator.builder.images[picture["uri"]] for picture in node.findall(frame_image)]
    folder = quote(translator.builder.imgpath) + "/"
    first = node["frames"][node["start"]]
    data = {
        "folder": folder,
        "files": files,
        "values": [slider["values"] for slider in node["sliders"]],
        "frames": [[f["image"], f["alt"], f["text"]] for f in node["frames"]],
    }
    # "<" inside a script element could end it.
    json_data = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    # With `mystnb: figure:` in the cell's metadata there is a figure around already.
    tag = "div role='group'" if isinstance(node.parent, nodes.figure) else "figure"
    # Figures below wait until they come near; the first one is what a reader sees.
    lazy = "" if node is next(node.document.findall(explore_figure), node) else ' loading="lazy"'
    controls = "".join(_control(slider, f"{node['key']}-{slider['name']}") for slider in node["sliders"])
    translator.body.append(
        f'<{tag} class="kx-explore">\n'
        f'<img src="{folder}{quote(files[first["image"]])}" alt="{escape(first["alt"])}" '
        f'width="{node["width"]}" height="{node["height"]}" decoding="async"{lazy}>\n'
        f'<div class="kx-controls" hidden>\n{controls}'
        f'<script type="application/json">{json_data}</script>\n</div>\n'
    )
    if any(frame["text"] for frame in node["frames"]):
        translator.body.append(f'<output class="kx-text" aria-live="polite">{escape(first["text"])}</output>\n')
    if any(isinstance(child, nodes.paragraph) for child in node):
        translator.body.append("<figcaption>\n")


def depart_explore_figure(translator: Any, node: explore_figure) -> None:
    """Close what `visit_explore_figure` opened."""
    if any(isinstance(child, nodes.paragraph) for child in node):
        translator.body.append("</figcaption>\n")
    translator.body.append("</div>\n" if isinstance(node.parent, nodes.figure) else "</figure>\n")


def _control(slider: dict, key: str) -> str:
    label, values, start = escape(slider["label"]), slider["values"], slider["start"]
    # autocomplete="off": on reload Firefox would restore the position, but not the picture.
    common = f'id="{key}" autocomplete="off"'
    if slider["kind"] == "switch":
        checked = " checked" if start else ""
        return f'<label class="kx-control kx-switch"><input type="checkbox" {common}{checked}> {label}</label>\n'
    if slider["kind"] == "choice":
        options = "".join(
            f'<option value="{i}"{" selected" if i == start else ""}>{escape(value)}</option>'
            for i, value in enumerate(values)
        )
        return f'<div class="kx-control"><label for="{key}">{label}</label><select {common}>{options}</select></div>\n'
    # The value beside the label is for the eye; assistive technology reads aria-valuetext. The two buttons, for fingers
    # only (explore.css), hit the neighbouring step, which on a phone may be three pixels away.
    return (
        f'<div class="kx-control kx-slider"><div><label for="{key}">{label}</label> '
        f'<span class="kx-value" aria-hidden="true">{escape(values[start])}</span></div>'
        f'<button type="button" data-step="-1" aria-label="lower: {label}">−</button>'
        f'<input type="range" {common} min="0" max="{len(values) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{escape(values[start])}">'
        f'<button type="button" data-step="1" aria-label="higher: {label}">+</button></div>\n'
    )


def _skip(translator: Any, node: nodes.Element) -> None:
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the nodes, the page budget, script and style sheet."""
    app.add_node(explore_figure, html=(visit_explore_figure, depart_explore_figure))
    app.add_node(frame_image, html=(_skip, None))
    app.add_post_transform(StartFrameElsewhere)
    app.connect("doctree-read", check_page_budget)
    app.add_css_file("explore.css")
    app.add_js_file("explore.js", loading_method="defer")
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
