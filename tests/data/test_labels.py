"""Identifiers become plain words, and stay apart."""

import pytest

from fedpeft.data.labels import plain_names, plain_words
from fedpeft.errors import DataError


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card arrival"),
        ("Refund_not_showing_up", "refund not showing up"),
        ("ATM_support", "ATM support"),
        ("getHTTPResponse", "get HTTP response"),
        ("reverted_card_payment?", "reverted card payment?"),
        ("set an alarm", "set an alarm"),
        ("New  York", "New York"),
        ("World", "World"),
        ("check-in", "check-in"),
        ("7", "7"),
        ("_", "_"),
    ],
)
def test_plain_words(label, words):
    assert plain_words(label) == words


def test_names_keep_their_order():
    assert plain_names(["b_c", "aB"], origin="x.csv") == ("b c", "a b")


def test_two_labels_of_the_same_words_are_named():
    with pytest.raises(DataError, match=r'x\.csv: labels "card_arrival" and "cardArrival" both read "card arrival"'):
        plain_names(["card_arrival", "cardArrival"], origin="x.csv")
