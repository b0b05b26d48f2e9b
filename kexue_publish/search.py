"""Search that finds Chinese as well as English words.

Sphinx splits text at spaces and punctuation, so a Chinese title would be one long "word". Here every run of Chinese
characters also gives its single characters and its bigrams to the index, and the search page cuts a query in the same
way: 随机向量 asks for 随机, 机向 and 向量, and finds the pages that have all three. English keeps Sphinx's stemming. Of the pages
found, those with more of the words in their title come first.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.search import SearchEnglish

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUN = re.compile(f"[{HAN}]+")

# The counterpart of `ChineseAndEnglish.split` for a query; the search page calls `splitQuery`. A single character is
# only asked for when there is nothing else: in a longer run the bigrams already imply it, and a page with a part's number, the 一
# in （一）, in its title is not what was looked for. The s of "Ramanujan's" is no word;
# asked for, together with another word of one or two letters, it would find nothing at all.
_SPLIT_QUERY = (
    r"""
var splitQuery = (query) => {
  const han = /[HAN]+/gu;
  const terms = (query.replace(han, " ").replace(/['’]s\b/g, "").match(/[\p{Letter}\p{Number}_\p{Emoji_Presentation}]+/gu) || []);
  const single = [];
  for (const [run] of query.matchAll(han)) {
    if (run.length === 1) single.push(run);
    for (let i = 0; i + 1 < run.length; i++) terms.push(run.slice(i, i + 2));
  }
  return terms.length ? terms : single;
};
"""
).replace("HAN", HAN)


# A result is [page, title, anchor, description, score, ...]. Sphinx gives a page the score of its best word, so that one word in
# any heading is as good as all of them in the title of the page.
_SCORE = """
Scorer.score = ([, title, , , score]) => {
  const words = splitQuery((new URLSearchParams(window.location.search).get("q") || "").toLowerCase());
  return score + words.filter((word) => title.toLowerCase().includes(word)).length;
};
"""


class ChineseAndEnglish(SearchEnglish):
    """Sphinx's English search language, with bigrams for runs of Chinese characters."""

    lang = "kexue"
    language_name = "English and Chinese"
    js_splitter_code = _SPLIT_QUERY + _SCORE

    def split(self, input: str) -> list[str]:
        """Cut a text into the terms under which it is found.

        Examples
        --------
        >>> ChineseAndEnglish({}).split("n维空间, two vectors")
        ['n', 'two', 'vectors', '维', '空', '间', '维空', '空间']
        """
        words = super().split(_RUN.sub(" ", input))
        for run in _RUN.findall(input):
            words += list(run)
            words += [run[i : i + 2] for i in range(len(run) - 1)]
        return words


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the language as ``html_search_language: kexue``."""
    app.add_search_language(ChineseAndEnglish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
