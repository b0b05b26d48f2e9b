"""The security policy that the build writes into a page."""

import pytest

from kexue_publish.policy import POLICY, policy, source_of, with_policy

HEAD = '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8" />\n'


def scripts(page: str) -> list[str]:
    directives = dict(part.split(" ", 1) for part in policy(page).split("; "))
    return directives["script-src"].split()


def test_the_hash_is_that_of_the_standard():
    # The example of Content Security Policy Level 3, section 8.
    assert (
        source_of("alert('Hello, world.');")
        == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"  # pragma: allowlist secret
    )


def test_nothing_is_allowed_but_what_is_named():
    assert POLICY["default-src"] == ["'none'"]
    allowed = {source for sources in POLICY.values() for source in sources}
    assert allowed == {"'none'", "'self'", "data:", "'unsafe-inline'"}
    assert [name for name, sources in POLICY.items() if "'unsafe-inline'" in sources] == ["style-src"]


def test_a_script_in_the_page_is_allowed_by_its_very_text():
    assert scripts("<script> a < b && c </script>") == ["'self'", source_of(" a < b && c ")]
    assert source_of("a()") != source_of("a() ")


def test_files_and_data_need_no_hash():
    page = '<script src="a.js"></script><script type="application/json">{"a": 1}</script>'
    assert scripts(page) == ["'self'"]


def test_an_attribute_that_is_code_is_allowed_as_the_browser_reads_it():
    assert scripts('<button onclick="f(&quot;x&quot;)">') == ["'self'", "'unsafe-hashes'", source_of('f("x")')]


def test_the_policy_stands_before_everything_that_it_governs():
    page = with_policy(f"{HEAD}<script>a()</script></head></html>")
    assert page.index("Content-Security-Policy") < page.index("<script>")
    assert page.index("charset") < page.index("Content-Security-Policy")


@pytest.mark.parametrize(
    "page", ["<html><head></head></html>", HEAD.replace("<meta", "<script>a()</script><meta")], ids=["no place", "late"]
)
def test_a_page_without_a_place_for_it_is_refused(page):
    with pytest.raises(ValueError, match="expected <meta charset"):
        with_policy(page)
