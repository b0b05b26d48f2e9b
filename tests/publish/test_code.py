"""Facts about highlighted code on the pages."""

import re
from io import StringIO

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from kexue_publish.code import PlainerFormatter

CODE = 'def area(r):\n    """Of a disc."""\n    return 3.14 * r[0] ** 2 if r < "x" else None  # flat\n'


def test_only_meaning_is_coloured_and_nothing_is_lost():
    page = highlight(CODE, PythonLexer(), PlainerFormatter())
    elements = dict(re.findall(r'<span class="(\w+)">([^<]+)</span>', page))
    assert elements["k"] in {"return", "else"} and elements["c1"] == "# flat" and elements["nf"] == "area"
    assert not {"n", "o", "p", "w", "mi", "mf"} & elements.keys()
    plain = re.sub("<[^>]+>", "", page).replace("&lt;", "<").replace("&quot;", '"')
    assert plain.strip() == CODE.strip()


def test_what_looks_alike_in_both_modes_is_one_element(monkeypatch):
    monkeypatch.setattr(PlainerFormatter, "styles", ("xcode", "github-dark"))
    page = highlight('f"{a} and {b}"', PythonLexer(), PlainerFormatter())
    assert len(re.findall('<span class="s', page)) < len(
        re.findall('<span class="s', highlight('f"{a} and {b}"', PythonLexer(), HtmlFormatter()))
    )
    assert re.findall(r'<span class="(\w+)">[^<]*</span>', highlight('rb"a"', PythonLexer(), PlainerFormatter())) == [
        "sa",
        "s2",
    ]


def test_formatter_writes_to_a_file_too():
    out = StringIO()
    highlight(CODE, PythonLexer(), PlainerFormatter(), outfile=out)
    assert "area" in out.getvalue()
