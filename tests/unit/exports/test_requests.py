"""Asking for exports: within the limits of the key, once per Idempotency-Key, invisible to whom it does not concern."""

import dataclasses
import json
from collections.abc import Iterator

import pytest
from tests.desks import ANA, ask, begin, desk_at, finish, key, look

from eventferry.access.keyring import Keyring
from eventferry.exports import requests
from eventferry.exports.desk import Desk
from eventferry.exports.model import Output, Selection
from eventferry.exports.refusals import Conflict, Gone, NotFound, NotPossible, NotReady, TooMany
from eventferry.exports.wanted import S3, Notify
from eventferry.ledger import exports
from eventferry.query import And, Compare, Op, Scope

VIEWS = Compare(("type",), Op.EQ, "view")
GERMAN = Compare(("country",), Op.EQ, "de")
STORE = S3("https://s3.eu-central-1.amazonaws.com/bucket/in/", "AKIA", "sesame-open")


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


def test_a_new_export_waits_in_the_queue_pinned_to_the_log(desk):
    """It is queued with all that was asked, at the head of the log, and has neither files nor an expiry yet."""
    row = ask(desk, name="views", tags=("a", "b"), details={"x": 1}, asked={"timeframe": "today"})
    assert (row.state, row.as_of, row.files, row.expires_ms, row.percent) == ("queued", 0, 0, None, 0)
    assert (row.name, row.tags, row.details, row.asked) == ("views", ("a", "b"), {"x": 1}, {"timeframe": "today"})
    assert requests.get(desk, ANA, row.id) == row


def test_the_limits_of_the_key_are_laid_over_what_it_asks(desk):
    """Its filter is ANDed, its realm narrows the scope."""
    limited = key(filter=GERMAN, tenants=("acme", "beta"))
    row = ask(desk, limited, selection=Selection(Scope(tenants=("beta", "zeta")), VIEWS, 5, 9))
    assert requests.selection_of(row) == Selection(Scope(tenants=("beta",)), And((VIEWS, GERMAN)), 5, 9)
    assert requests.selection_of(ask(desk, limited)).filter == GERMAN


@pytest.mark.parametrize(
    ("who", "sees"),
    [
        (key("other", tenants=("acme",)), True),
        (key("wide"), True),
        (key("two", tenants=("beta", "acme")), True),
        (key("beta", tenants=("beta",)), False),
        (key("nobody", tenants=()), False),
        (key("project", tenants=("acme",), projects=("web",)), False),
        (key("filtered", tenants=("acme",), filter=VIEWS), False),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_an_export_exists_for_keys_that_cover_it(desk, who, sees):
    """Others get the words of an unknown id, and their lists are empty."""
    row = ask(desk, key("acme", tenants=("acme",)))
    assert [each.id for each in requests.list_page(desk, who).rows] == ([row.id] if sees else [])
    if sees:
        assert requests.get(desk, who, row.id) == row
        return
    for act in (requests.get, requests.cancel, requests.delete, requests.files):
        with pytest.raises(NotFound, match=f"^there is no export {row.id}$"):
            act(desk, who, row.id)
    with pytest.raises(NotFound, match=r"^there is no export unknown$"):
        requests.get(desk, who, "unknown")
    assert look(desk, row).state == "queued"


def test_an_export_made_under_a_filter_exists_for_that_filter_and_for_none(desk):
    """A key with another filter does not see it, one without does."""
    row = ask(desk, key("one", filter=VIEWS))
    assert requests.get(desk, key("same", filter=VIEWS), row.id)
    assert requests.get(desk, ANA, row.id)
    with pytest.raises(NotFound):
        requests.get(desk, key("another", filter=GERMAN), row.id)


def test_asking_for_somebody_elses_events_gives_an_empty_export_of_ones_own(desk):
    """It selects nothing, and what it says of itself is no more public than any other of the key's exports."""
    row = ask(desk, key("acme", tenants=("acme",)), selection=Selection(Scope(tenants=("beta",))), name="secret plan")
    assert requests.selection_of(row).scope == Scope(tenants=())
    for other in (key("beta", tenants=("beta",)), key("zeta", tenants=("zeta",))):
        assert requests.list_page(desk, other).rows == []


def test_names_in_any_order_and_twice_are_the_same_scope(desk):
    """A key sees what it asked for, however the names were written."""
    who = key("two", tenants=("b", "a", "b"))
    row = ask(desk, who, selection=Selection(Scope(tenants=("b", "a"), collections=("y", "x", "y"))))
    assert requests.get(desk, who, row.id).selection["scope"] == {
        "tenants": ["a", "b"], "projects": None, "collections": ["x", "y"],
    }  # fmt: skip


def test_lists_are_pages_from_the_newest_on(desk):
    """Each page begins where the one before ended; the last one says that there is no other."""
    made = [ask(desk).id for _ in range(7)]
    ask(desk, key("beta", tenants=("beta",)))
    who, seen, after = key("all-of-it"), [], None
    while True:
        page = requests.list_page(desk, who, limit=3, after=after)
        seen += [row.id for row in page.rows]
        after = page.next
        if after is None:
            break
    assert seen[1:] == made[::-1]
    assert len(requests.list_page(desk, who, limit=8).rows) == 8
    assert requests.list_page(desk, who, limit=8).next is None


def test_lists_are_filtered_by_state_dialect_and_tag(desk):
    """A tag is one of the whole tags, not a piece of one."""
    first = ask(desk, tags=("a%", "blue"), dialect="gooee")
    second = finish(desk, ask(desk, tags=("a",)))

    def ids(**how):  # fmt: skip
        return [row.id for row in requests.list_page(desk, ANA, **how).rows]

    assert ids(tag="a") == [second.id]
    assert ids(tag="a%") == ids(tag="blue") == ids(dialect="gooee") == ids(state="queued") == [first.id]
    assert ids(tag='a", "blue') == ids(tag="%") == []
    assert ids(state="complete") == [second.id]


def test_the_same_request_under_one_idempotency_key_is_one_export(desk):
    """Also when a relative timeframe means another time by now; another request is refused, another key is free."""
    how = {"asked": {"timeframe": "last_60_minutes"}, "idempotency_key": "k1"}
    first = ask(desk, selection=Selection(start_ms=1, end_ms=2), **how)
    assert ask(desk, selection=Selection(start_ms=3, end_ms=4), **how) == first
    with pytest.raises(Conflict, match="'k1' came with another request"):
        ask(desk, **{**how, "asked": {"timeframe": "today"}})
    with pytest.raises(Conflict):
        ask(desk, **how, output=Output("csv"))
    assert ask(desk, key("bob"), **how).id != first.id
    requests.delete(desk, ANA, first.id)
    assert ask(desk, **how).id != first.id


def test_a_key_may_have_so_many_exports_waiting(tmp_path):
    """One more is refused with a hint when to come again; what runs or has ended does not count, nor do others'."""
    with desk_at(tmp_path, exports={"queued_per_key": 2}) as desk:
        first, _ = ask(desk), ask(desk)
        with pytest.raises(TooMany, match="2 exports of this key are waiting already") as refused:
            ask(desk)
        assert refused.value.retry_after == 30
        ask(desk, key("bob"))
        begin(desk, first)
        third = ask(desk)
        with pytest.raises(TooMany):
            ask(desk)
        requests.cancel(desk, ANA, third.id)
        assert ask(desk).state == "queued"


@pytest.mark.parametrize(
    ("wanted", "field", "words"),
    [
        ({"output": Output("parquet", "gzip")}, "output.compression", "compressed inside"),
        ({"notify": Notify(email=("a@example.com",))}, "notify.email", "exports.mail_through"),
        ({"notify": Notify(webhook="http://169.254.169.254/")}, "notify.webhook", "169.254.169.254"),
        ({"destination": S3("https://10.0.0.1/b/x", "a", "b")}, "destination.url", "allow_endpoints"),
        ({"destination": S3("s3://bucket/../x", "a", "b")}, "destination.url", "prefix"),
        ({"destination": dataclasses.replace(STORE, region="x/y")}, "destination.url", "is not a region"),
    ],
)
def test_what_cannot_be_had_is_refused_at_once(desk, wanted, field, words):
    """The refusal names the part of the request and the remedy, and nothing is queued."""
    with pytest.raises(NotPossible, match=words) as refused:
        ask(desk, **wanted)
    assert refused.value.field == field
    assert requests.list_page(desk, ANA).rows == []


def test_parquet_is_refused_where_it_cannot_be_written(desk, monkeypatch):
    """The refusal says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else object())
    with pytest.raises(NotPossible, match=r"install eventferry\[parquet\]"):
        ask(desk, output=Output("parquet"))


def test_addresses_are_checked_and_counted(tmp_path):
    """A letter goes to at most ten addresses that are ones."""
    mail = [{"type": "email", "host": "localhost", "from": "a@example.com", "to": "b@example.com"}]
    with desk_at(tmp_path, alerts={"channels": mail}) as desk:
        assert ask(desk, notify=Notify(email=("x@example.com",))).notify["email"] == ["x@example.com"]
        with pytest.raises(NotPossible, match=r"'x@' is not an e-mail address"):
            ask(desk, notify=Notify(email=("x@",)))
        with pytest.raises(NotPossible, match="11 addresses are more than 10"):
            ask(desk, notify=Notify(email=("x@example.com",) * 11))
        with pytest.raises(NotPossible, match="is not an e-mail address"):
            ask(desk, notify=Notify(email=("x@example.com\r\nBcc: all@example.com",)))
        for several in ("nope", "x@y.z, q@r.s <a@b.c>", "a@b.c,d@e.f", "group: a@b.c;", f"{'x' * 251}@y.z", "a@-b.c"):
            with pytest.raises(NotPossible, match="is not an e-mail address"):
                ask(desk, notify=Notify(email=(several,)))


def test_store_credentials_are_encrypted_for_this_export_and_shown_nowhere(desk):
    """Neither the row nor its repr nor the ledger's file holds them in clear; the keyring gives them back."""
    row = ask(desk, destination=STORE)
    with desk.ledger.read() as tx:
        stored = exports.credentials(tx, row.id)
    assert "sesame" not in repr(row) + repr(STORE) + json.dumps(row.destination)
    for path in desk.state_dir.glob("ledger.db*"):
        assert b"sesame" not in path.read_bytes()
    plain = Keyring(desk.state_dir).decrypt("store-credentials", row.id.encode(), stored)
    assert json.loads(plain) == STORE.credentials()


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_credentials_are_erased_with_the_end(desk, end):
    """A queued export that is given up needs them no more."""
    row = ask(desk, destination=STORE)
    getattr(requests, end)(desk, ANA, row.id)
    with desk.ledger.read() as tx:
        assert exports.credentials(tx, row.id) is None


def test_a_queued_export_is_cancelled_at_once_and_a_running_one_is_asked_to_end(desk):
    """What has ended stays as it is."""
    assert requests.cancel(desk, ANA, ask(desk).id).state == "cancelled"
    running = requests.cancel(desk, ANA, begin(desk, ask(desk)).id)
    assert (running.state, running.cancelled) == ("running", True)
    done = finish(desk, ask(desk))
    assert requests.cancel(desk, ANA, done.id).state == "complete"


def test_a_file_is_opened_for_whoever_may_see_the_export(desk):
    """With its size and digest beside it."""
    row = finish(desk, ask(desk, key("acme", tenants=("acme",))), one=b"1\r\n", two=b"22\r\n")
    assert [each.name for each in requests.files(desk, ANA, row.id)] == ["one.csv", "two.csv"]
    opened = requests.open_file(desk, ANA, row.id, "two.csv")
    with opened.file as file:
        assert (file.read(), opened.row.bytes, opened.export.id) == (b"22\r\n", 4, row.id)
    for name in ("three.csv", "../../ledger.db", "", "/etc/passwd"):
        with pytest.raises(NotFound):
            requests.open_file(desk, ANA, row.id, name)
    with pytest.raises(NotFound, match="there is no export"):
        requests.open_file(desk, key("beta", tenants=("beta",)), row.id, "two.csv")


def test_an_export_that_is_not_complete_has_no_files(desk):
    """Whoever asks for one is told what it is."""
    row = begin(desk, ask(desk))
    assert requests.files(desk, ANA, row.id) == []
    with pytest.raises(NotReady, match="is running"):
        requests.open_file(desk, ANA, row.id, "events.csv")


def test_deleting_removes_the_files_and_kills_links_while_a_reader_reads_on(desk):
    """For everybody else it has never been."""
    row = finish(desk, ask(desk))
    reading = requests.open_linked_file(desk, row.id, "events.csv").file
    requests.delete(desk, ANA, row.id)
    assert not list(desk.folder.iterdir())
    with reading:
        assert reading.read() == b"a,b\r\n1,2\r\n"
    for act in (requests.get, requests.delete, requests.files, requests.cancel):
        with pytest.raises(NotFound):
            act(desk, ANA, row.id)
    with pytest.raises(NotFound):
        requests.open_linked_file(desk, row.id, "events.csv")
    assert requests.list_page(desk, ANA).rows == []


def test_several_are_deleted_together_or_not_at_all(desk):
    """One unknown id among them deletes nothing."""
    ids = [finish(desk, ask(desk)).id for _ in range(2)]
    with pytest.raises(NotFound):
        requests.delete(desk, ANA, [*ids, "unknown"])
    assert len(requests.list_page(desk, ANA).rows) == 2
    requests.delete(desk, ANA, ids)
    assert requests.list_page(desk, ANA).rows == []


def test_a_file_that_vanished_from_the_disk_is_gone_not_an_error(desk):
    """Somebody cleaned up by hand, or the expiry came just now."""
    row = finish(desk, ask(desk))
    (desk.folder / row.id / "events.csv").unlink()
    with pytest.raises(Gone):
        requests.open_file(desk, ANA, row.id, "events.csv")
