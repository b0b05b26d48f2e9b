"""What the search finds: the terms of a text, and the index of a page. (tests/site asks the search page itself.)"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_publish.search import ChineseAndEnglish

split = ChineseAndEnglish({}).split
han = st.text(st.sampled_from("维空间下两个随机向量的夹角分布"), min_size=1, max_size=12)


def test_a_chinese_run_gives_characters_and_bigrams():
    assert set(split("随机向量")) == set("随机向量") | {"随机", "机向", "向量"}


def test_english_is_split_as_before():
    assert split("The angle, between two (random) vectors") == ["The", "angle", "between", "two", "random", "vectors"]


def test_punctuation_ends_a_run():
    assert "灾难之" not in split("“灾难”之") and "难之" not in split("“灾难”之")


def test_latin_letters_inside_chinese_are_words_of_their_own():
    assert {"n", "维空"} <= set(split("n维空间")) and {"flow", "流模", "之"} <= set(split("flow之流模型"))


@given(before=han, query=han, after=han)
def test_a_text_is_found_by_every_part_of_it(before, query, after):
    wanted = {query} if len(query) == 1 else {query[i : i + 2] for i in range(len(query) - 1)}
    assert wanted <= set(split(before + query + after))


@given(st.text(max_size=60))
def test_terms_are_never_empty(text):
    assert all(split(text))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    (folder / "conf.py").write_text(
        "extensions = ['myst_parser', 'kexue_publish.search']\nhtml_search_language = 'kexue'\n", encoding="utf-8"
    )
    (folder / "index.md").write_text("# Random angles\n\nn维空间下两个随机向量的夹角分布\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "_build")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / "_build"


def test_the_index_holds_bigrams_and_stems(built):
    index = (built / "searchindex.js").read_text(encoding="utf-8").encode().decode("unicode_escape")
    assert '"夹角"' in index and '"随机"' in index and '"angl"' in index


def test_the_search_page_cuts_queries_the_same_way(built):
    script = (built / "_static" / "language_data.js").read_text(encoding="utf-8")
    assert re.search(r"var splitQuery = .*run\.slice\(i, i \+ 2\)", script, re.DOTALL)
    assert "Stemmer" in script and "stopwords" in script
