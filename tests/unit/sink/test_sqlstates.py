"""What a server that speaks PostgreSQL's protocol complains about means the right thing to the daemon."""

import psycopg.errors
import pytest

from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.postgresql.sqlstates import Complaint, meaning

KNOWN = sorted(
    {each.sqlstate for each in vars(psycopg.errors).values() if isinstance(getattr(each, "sqlstate", None), str)}
)
# One line a class: what its codes mean, and the codes of it that mean something else.
CLASSES = {
    "02": (SinkUnavailable, {}),
    "03": (SinkUnavailable, {}),
    "08": (SinkUnavailable, {}),
    "09": (SinkUnavailable, {}),
    "0A": (SinkMisconfigured, {}),
    "0B": (SinkUnavailable, {}),
    "0F": (SinkUnavailable, {}),
    "0L": (SinkMisconfigured, {}),
    "0P": (SinkMisconfigured, {}),
    "0Z": (SinkUnavailable, {}),
    "10": (SinkUnavailable, {}),
    "20": (SinkUnavailable, {}),
    "21": (BatchRejected, {}),
    "22": (BatchRejected, {}),
    "23": (BatchRejected, {}),
    "24": (SinkUnavailable, {}),
    "25": (SinkUnavailable, {}),
    "26": (SinkUnavailable, {}),
    "27": (BatchRejected, {}),
    "28": (SinkMisconfigured, {}),
    "2B": (SinkUnavailable, {}),
    "2D": (SinkUnavailable, {}),
    "2F": (SinkUnavailable, {}),
    "34": (SinkUnavailable, {}),
    "38": (BatchRejected, {}),
    "39": (BatchRejected, {}),
    "3B": (SinkMisconfigured, {}),
    "3D": (SinkMisconfigured, {}),
    "3F": (SinkMisconfigured, {}),
    "40": (SinkUnavailable, {}),
    "42": (SinkMisconfigured, {}),
    "44": (BatchRejected, {}),
    "53": (SinkUnavailable, {}),
    "54": (BatchRejected, {}),
    "55": (SinkUnavailable, {}),
    "57": (SinkUnavailable, {"57P04": SinkMisconfigured}),
    "58": (SinkUnavailable, {}),
    "72": (SinkUnavailable, {}),
    "F0": (SinkMisconfigured, {}),
    "HV": (SinkMisconfigured, {}),
    "P0": (BatchRejected, {}),
    "XX": (SinkUnavailable, {"XX001": SinkMisconfigured, "XX002": SinkMisconfigured}),
}

LINE, JSON = "COPY events, line 7", 'JSON data, line 1: {"a":"SECRET'


def test_every_class_is_judged():
    """No class of SQLSTATEs that the client knows is left to chance."""
    assert {code[:2] for code in KNOWN} <= set(CLASSES)
    assert len(KNOWN) > 240


def test_every_code_has_its_meaning():
    """Later, a person, or the content: by class, with the exceptions named above; before COMMIT nothing was taken."""
    for code in KNOWN:
        usual, exceptions = CLASSES[code[:2]]
        found = meaning(Complaint(code, "it said so"), "db:5432/bi")
        assert type(found) is exceptions.get(code, usual), code
        assert str(found).startswith("db:5432/bi: it said so")
        assert code in str(found)
        assert not isinstance(found, SinkUnavailable) or found.untouched, code


def test_at_commit_only_a_refusal_is_certain():
    """A server that goes away at COMMIT may have done it; one that answers with a refusal has rolled back."""
    for code in KNOWN:
        found = meaning(Complaint(code, "no"), "db", committing=True)
        if isinstance(found, SinkUnavailable):
            assert found.untouched == (code[:2] not in ("08", "57", "58", "XX") and code != "40003"), code
            assert ("is unknown" in str(found)) == (not found.untouched), code


def test_a_broken_connection_is_unknown_at_commit_alone():
    """Without an answer: nothing was taken before COMMIT was sent, nobody knows afterwards."""
    assert meaning(Complaint(None, "the connection broke"), "db").untouched
    assert not meaning(Complaint(None, "the connection broke"), "db", committing=True).untouched


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            Complaint("22P05", "unsupported Unicode escape sequence", f'{JSON}\n{LINE}, column event: "{{SECRET}}"'),
            "db: unsupported Unicode escape sequence (column event) [22P05]",
        ),
        (
            Complaint("22P02", 'invalid input syntax for type bigint: "SECRET', f'{LINE}, column n: "SECRET"'),
            "db: invalid input syntax for type bigint (column n) [22P02]",
        ),
        (
            Complaint("23505", 'duplicate key value violates unique constraint "one"', LINE, "", "one"),
            'db: duplicate key value violates unique constraint "one" [23505]',
        ),
        (Complaint("23514", "refused", constraint="small"), "db: refused (constraint small) [23514]"),
        (Complaint("23502", "null value in column", column="n"), "db: null value in column (column n) [23502]"),
        (Complaint("53100", "could not extend"), "db: could not extend: its disk is full; free some space [53100]"),
        (Complaint("22P02", "two\nlines\x00" + "x" * 500), "db: two lines " + "x" * 289 + "… [22P02]"),
    ],
)  # fmt: skip
def test_words_are_the_servers_without_the_events(said, expected):
    """The primary message, the column, the constraint: no detail, no context, no quoted value, one short line."""
    found = str(meaning(said, "db"))
    assert found == expected
    assert "SECRET" not in found


def test_a_remedy_is_told_by_code_or_class():
    """What a person may run stands behind the server's words."""
    remedies = {"42501": "GRANT it", "28": "look at the password"}
    assert str(meaning(Complaint("42501", "denied"), "db", remedies=remedies)).endswith("[42501]; GRANT it")
    assert str(meaning(Complaint("28P01", "no"), "db", remedies=remedies)).endswith("; look at the password")
    assert str(meaning(Complaint("42P01", "gone"), "db", remedies=remedies)).endswith("gone [42P01]")
