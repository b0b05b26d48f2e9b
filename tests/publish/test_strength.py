"""Facts about how strong an equation is shown, from its pieces of evidence alone."""

import pytest

from kexue_publish.strength import Book, Entry, Piece


def settled(*pieces):
    """An equation with these (kind, step) pieces of evidence, after it has been settled."""
    book = object.__new__(Book)
    book.entries = {}
    records = [{"kind": kind, "using": [], "step": step} for kind, step in pieces]
    entry = Entry("eq-a", "page", "Page", 1, "a = b", "1", [Piece(record, 1, "check") for record in records])
    book._settle(entry)
    return entry


@pytest.mark.parametrize(
    "pieces, word, in_steps",
    [
        ([("numeric", None), ("proved", None)], "proved", False),
        ([("proved", "the slope"), ("exact", "the start")], "exact", True),
        ([("proved", "the slope"), ("numeric", None)], "proved", True),
        ([("proved", "the slope"), ("sampled", "the rest"), ("numeric", None)], "numeric", False),
        ([("proved", "the slope"), ("proved", None)], "proved", False),
        ([("definition", None), ("proved", "the slope")], "proved", True),
    ],
)
def test_steps_are_as_strong_as_the_weakest_of_them_and_the_whole_claim_goes_first(pieces, word, in_steps):
    entry = settled(*pieces)
    assert (entry.kind, entry.claimed, entry.in_steps) == (word, word, in_steps)


def test_an_equation_checked_in_steps_says_so():
    book = object.__new__(Book)
    assert book.verdict(settled(("proved", "the slope"), ("proved", "the ends"))) == "proved, in steps"


def test_equations_checked_in_steps_are_counted_by_kind():
    book = object.__new__(Book)
    book.entries = {
        "eq-whole": settled(("proved", None)),
        "eq-steps": settled(("proved", "the slope"), ("proved", "the ends")),
        "eq-weak": settled(("proved", "the slope"), ("exact", "the ends")),
    }
    assert book.counts() == {"proved": 2, "exact": 1}
    assert book.counts_in_steps() == {"proved": 1, "exact": 1}
