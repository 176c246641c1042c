"""Keys open what they were made for, and nothing else opens anything."""

from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from eventferry import clock
from eventferry.access import keys
from eventferry.access.base62 import to_base62
from eventferry.access.keys import Key, Refused
from eventferry.errors import UsageError
from eventferry.ledger import Ledger
from eventferry.ledger import pull_tables as t
from eventferry.query.expression import Compare, Op
from eventferry.query.scope import Scope

FILTER = Compare(("country",), Op.IN, ("DE", "AT"))
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def make(ledger: Ledger, **more: Any) -> tuple[Key, str]:
    with ledger.write() as tx:
        return keys.create_key(tx, **{"name": "nightly", "owner": "ana", "scopes": ["events"], **more})


def used_ms(ledger: Ledger, key: Key) -> int | None:
    with ledger.read() as tx:
        found = keys.get_key(tx, key.id)
    assert found is not None
    return found.used_ms


def test_a_token_opens_its_key_with_all_that_it_was_given(ledger: Ledger) -> None:
    """Scopes, realm and filter come back as they were put in."""
    realm = Scope(tenants=("acme",), collections=("web", "app"))
    made, token = make(ledger, scopes=["exports", "events"], realm=realm, filter=FILTER, expires_ms=2**45)
    found = keys.authenticate(ledger, token)
    assert found == made
    assert (found.realm, found.filter, found.scopes) == (realm, FILTER, {"events", "exports"})
    assert found.may("events")
    assert not found.may("admin")


def test_admin_holds_every_scope(ledger: Ledger) -> None:
    """Whoever administers need not list the rest."""
    made, _ = make(ledger, scopes=["admin"])
    assert all(made.may(scope) for scope in keys.SCOPES)
    assert made.is_admin


def test_a_token_has_one_form(ledger: Ledger) -> None:
    """Letters, digits and two underscores: it passes through headers, URLs and shells as it is."""
    made, token = make(ledger)
    found = keys.TOKEN.fullmatch(token)
    assert found is not None
    assert found[1] == made.handle
    assert len(token) == 65


def test_the_secret_is_nowhere_in_the_ledger_nor_in_what_is_shown(ledger: Ledger) -> None:
    """Who reads a copy of the ledger, a log or a traceback can ask for nothing."""
    made, token = make(ledger)
    found = keys.TOKEN.fullmatch(token)
    assert found is not None
    with ledger.read() as tx:
        rows = tx.execute(sa.select(t.api_keys)).all()
        from eventferry.ledger import api_keys

        shown = repr(api_keys.all_keys(tx))
    assert found[2] not in str(rows) + repr(made) + shown
    assert rows[0].secret_hash not in shown


def test_every_changed_character_of_a_token_is_refused(ledger: Ledger) -> None:
    """Whichever it is, and whatever it becomes."""
    _, token = make(ledger)
    for at in range(len(token)):
        for other in {"0", "z", "_", " ", DIGITS[(DIGITS.find(token[at]) + 1) % 62]} - {token[at]}:
            with pytest.raises(Refused):
                keys.authenticate(ledger, token[:at] + other + token[at + 1 :])


def test_another_secret_with_a_right_checksum_is_refused(ledger: Ledger) -> None:
    """The checksum is a convenience, not a wall."""
    made, _ = make(ledger)
    secret = to_base62(12345, 43)
    for handle in (made.handle, "000000000000"):
        with pytest.raises(Refused):
            keys.authenticate(ledger, f"ef_{handle}_{secret}{keys._checksum(handle, secret)}")


def test_revoked_expired_unknown_and_mistyped_tokens_are_refused_in_the_same_words(ledger: Ledger) -> None:
    """Who tries learns nothing of what there is."""
    said = set()
    with freeze_time("2026-01-01") as frozen:
        expired, _ = make(ledger), frozen.tick(1)
        _, old = make(ledger, expires_ms=clock.now_ms() + 1000)
        made, revoked = make(ledger)
        with ledger.write() as tx:
            assert keys.revoke_key(tx, made.id)
            assert not keys.revoke_key(tx, made.id)
        keys.authenticate(ledger, old)
        frozen.tick(1)
        secret = to_base62(1, 43)
        unknown = f"ef_{'0' * 12}_{secret}{keys._checksum('0' * 12, secret)}"
        for token in (old, revoked, unknown, expired[1][:-1] + "!", ""):
            with pytest.raises(Refused) as refused:
                keys.authenticate(ledger, token)
            said.add(str(refused.value))
    assert len(said) == 1


def test_a_new_expiry_counts_at_once(ledger: Ledger) -> None:
    """Later, sooner, or never."""
    with freeze_time("2026-01-01") as frozen:
        made, token = make(ledger, expires_ms=clock.now_ms() + 1000)
        frozen.tick(2)
        with ledger.write() as tx:
            keys.set_expiry(tx, made.id, None)
        keys.authenticate(ledger, token)
        with ledger.write() as tx:
            keys.set_expiry(tx, made.id, clock.now_ms())
        with pytest.raises(Refused):
            keys.authenticate(ledger, token)


JUNK = [
    "",
    "ef_",
    "ef__",
    "é" * 65,
    "ef_\0",
    "\ud800",
    "x" * 1_000_000,
    "ef_" + "0" * 12 + "_" + "٣" * 49,
    "\n",
    None,
    7,
    b"ef",
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:12])
def test_junk_is_refused_like_any_other_token(ledger: Ledger, junk: Any) -> None:
    """Whatever a header held."""
    with pytest.raises(Refused):
        keys.authenticate(ledger, junk)


@given(junk=st.text(max_size=80) | st.from_regex(keys.TOKEN, fullmatch=True))
def test_no_text_does_anything_but_be_refused(junk: str) -> None:
    """No text crashes, and none of the right form has the right checksum by chance."""
    with pytest.raises(Refused):
        keys._parse(junk)


def test_a_line_end_after_the_token_is_not_part_of_it(ledger: Ledger) -> None:
    """fullmatch, not match: `$` would let it pass."""
    _, token = make(ledger)
    with pytest.raises(Refused):
        keys.authenticate(ledger, token + "\n")


def test_use_is_noted_at_most_once_a_minute(ledger: Ledger) -> None:
    """A request costs no write."""
    with freeze_time("2026-01-01") as frozen:
        made, token = make(ledger)
        assert used_ms(ledger, made) is None
        keys.authenticate(ledger, token)
        first = used_ms(ledger, made)
        assert first == clock.now_ms()
        frozen.tick(59)
        keys.authenticate(ledger, token)
        assert used_ms(ledger, made) == first
        frozen.tick(1)
        keys.authenticate(ledger, token)
        assert used_ms(ledger, made) == clock.now_ms()


def test_a_key_works_where_its_use_cannot_be_noted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk stops the daemon's work, not who only reads."""
    _, token = make(ledger)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(keys.api_keys, "note_use", full)
    assert keys.authenticate(ledger, token).name == "nightly"


def test_keys_are_found_by_id_handle_name_or_token(ledger: Ledger) -> None:
    """A name may be borne by several; the rest is one key's alone."""
    (one, token), (two, _) = make(ledger), make(ledger)
    with ledger.read() as tx:
        assert keys.find_keys(tx, one.id) == keys.find_keys(tx, one.handle) == keys.find_keys(tx, token) == [one]
        assert {key.id for key in keys.find_keys(tx, "nightly")} == {one.id, two.id}
        assert keys.find_keys(tx, "nobody") == []
        assert {key.id for key in keys.list_keys(tx)} == {one.id, two.id}
        assert keys.get_key(tx, "nobody") is None


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"owner": ""}, "owner"),
        ({"owner": "ana:b"}, "colon"),
        ({"scopes": []}, "needs a scope"),
        ({"scopes": ["events", "root"]}, "'root'"),
        ({"realm": Scope(tenants=())}, "tenant"),
        ({"realm": Scope(projects=("a", ""))}, "project"),
        ({"realm": Scope(collections=("a\0",))}, "collection"),
        ({"expires_ms": 1}, "expired"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(ledger: Ledger, wrong: dict[str, Any], word: str) -> None:
    """Each mistake is told in words, and nothing is written."""
    with pytest.raises(UsageError, match=word):
        make(ledger, **wrong)
    with ledger.read() as tx:
        assert keys.list_keys(tx) == []


def test_tokens_do_not_repeat(ledger: Ledger) -> None:
    """Handles and secrets are random."""
    made = [make(ledger) for _ in range(50)]
    assert len({token for _, token in made}) == len({key.handle for key, _ in made}) == 50
