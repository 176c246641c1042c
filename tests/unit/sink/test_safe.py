"""Texts and URLs in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.sink.safe import named, safe_text, safe_url


@given(st.one_of(st.text(max_size=2000), st.binary(max_size=2000)))
def test_a_text_is_one_bounded_line(text):
    """Nothing that a receiver answers can forge a second line of log, move a cursor or flood it."""
    safe = safe_text(text)
    assert len(safe) <= 200
    assert len(safe.splitlines()) <= 1
    assert safe.encode().decode() == safe
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in safe)


def test_secrets_are_masked_before_anything_is_cut():
    """A secret that would be cut at the limit is masked, not shown in part; a longer one goes before its own part."""
    assert safe_text("x" * 195 + "geheimnis", 200, ["geheimnis"]) == "x" * 195 + "***"
    assert safe_text("abcdef abc", 200, ["abc", "abcdef"]) == "*** ***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/in", "https://example.org/in"),
        ("https://u:p@example.org:8443/in?token=x#y", "https://example.org:8443/in"),
        ("https://hooks.example.org/T0/B0/abcdefghijklmnopqrstuvwx", "https://hooks.example.org/T0/B0/abcd…"),
        ("http://[::1]:80/in", "http://[::1]:80/in"),
        ("http://[::1/in", "a URL that cannot be read"),
        ("/login?next=/x", "/login"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    """User, password, query, fragment and token-like segments stay out of messages."""
    assert safe_url(url) == shown


def test_a_reason_that_names_its_thing_is_not_told_twice():
    """`a.gz: /store/a.gz: no longer there` says nothing more than its second half."""
    assert named("a.gz", "truncated") == "a.gz: truncated"
    assert named("a.gz", "a.gz: truncated") == "a.gz: truncated"
    assert named("a.gz", "/store/a.gz: no longer there") == "/store/a.gz: no longer there"
