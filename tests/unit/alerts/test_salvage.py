"""Salvage: the channels of a broken configuration still speak."""

import textwrap

from hypothesis import given
from hypothesis import strategies as st

from eventferry.alerts.salvage import salvage_tables

GOOD = """\
[[sources]]
name = "events"

[[alerts.channels]]
name = "team"
type = "slack"
url = "${env:HOOK}"

[[alerts.channels]]
type = "email"
host = "mail.example.org"
to = [
  "a@example.org",
  "b@example.org",
]
[alerts.channels.headers]
x = "1"

[[sinks]]
type = "file"
"""
TEAM = {"name": "team", "type": "slack", "url": "${env:HOOK}"}
MAIL = {
    "type": "email",
    "host": "mail.example.org",
    "to": ["a@example.org", "b@example.org"],
    "headers": {"x": "1"},
}


def test_a_sound_file_is_read_as_it_is() -> None:
    """Nothing is guessed where TOML answers."""
    assert salvage_tables(GOOD) == [TEAM, MAIL]


def test_breaks_elsewhere_do_not_matter() -> None:
    """A broken line above, below or a broken header leaves the channels whole."""
    for broken in ('name = "events"\nroot = /no/quotes', 'name = "events"\n[sources', "x ==="):
        assert salvage_tables(GOOD.replace('name = "events"', broken)) == [TEAM, MAIL]
    assert salvage_tables(GOOD + "[[sinks]\npath = oops\n") == [TEAM, MAIL]
    assert salvage_tables(GOOD + '[[sinks]]\npassword = "unclosed\n') == [TEAM, MAIL]


def test_a_broken_line_inside_a_channel_costs_that_line() -> None:
    """The rest of the channel is still there."""
    assert salvage_tables(GOOD.replace('name = "team"', "name = team")) == [{k: TEAM[k] for k in ("type", "url")}, MAIL]


def test_inline_tables_are_found_where_the_file_is_sound() -> None:
    """The other spelling of the same works while the file parses."""
    assert salvage_tables('[alerts]\nchannels = [{type = "slack", url = "u"}]') == [{"type": "slack", "url": "u"}]


@given(st.text())
def test_anything_is_survived(text: str) -> None:
    """No text makes the last resort fail."""
    salvage_tables(text)
    salvage_tables("[[alerts.channels]]\n" + text)


@given(st.lists(st.sampled_from(textwrap.dedent(GOOD).splitlines())))
def test_any_shuffle_of_lines_is_survived(lines: list[str]) -> None:
    """Doubled, missing and misplaced lines neither."""
    salvage_tables("\n".join(lines))
