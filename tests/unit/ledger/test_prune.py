"""Pruning: what is old and needed by nobody goes; the books balance, and nothing is delivered twice because of it."""

import datetime as dt
import itertools
from collections.abc import Iterator

import freezegun
import pytest
import sqlalchemy as sa
from tests.builders import Ferry, events, numbers
from tests.desks import ask

from eventferry import app, clock
from eventferry.exports.model import Selection
from eventferry.ledger import alerts, exports, log, sends, sinks
from eventferry.ledger import prune as prune_module
from eventferry.ledger import tables as t
from eventferry.ledger.prune import prune

DAY_MS = 86_400_000


@pytest.fixture
def time() -> Iterator[freezegun.api.FrozenDateTimeFactory]:
    with freezegun.freeze_time("2026-03-01 12:00:00") as time:
        yield time


def write_day(ferry: Ferry, day: int, source: str = "events") -> None:
    """One file of a hundred events for a day of March."""
    ferry.put(f"2026/03/{day:02}/00/a.ndjson", events(100, 100 * day), source)


def live(ferry: Ferry, time: freezegun.api.FrozenDateTimeFactory, days: range, *, deliver: bool = True) -> None:
    """A file a day, indexed and delivered on its day."""
    for day in days:
        time.move_to(dt.datetime(2026, 3, day, 12))
        for name in ferry.at_work:
            write_day(ferry, day, name)
            ferry.index(name, full=True)
        if deliver:
            ferry.deliver()


def keep_days(ferry: Ferry, days: int) -> dict[str, int]:
    return prune(ferry.ledger, clock.now_ms() - days * DAY_MS)


def test_old_delivered_files_go_and_the_books_balance(tmp_path, time):
    """Objects, segments and batches older than the retention go together; what is left adds up."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=30)
        ferry.open()
        live(ferry, time, range(1, 11))
        counts = keep_days(ferry, 4)
        assert counts["objects"] == counts["segments"] > 3
        assert counts["batches"] == 4 * counts["objects"]
        assert ferry.book().indexed == ferry.book().delivered == 100 * (10 - counts["objects"])
        assert ferry.source_book().events == ferry.book().indexed
        live(ferry, time, range(11, 13))
        assert numbers(ferry.script().lines()) == list(range(100, 1300))


def test_pruned_keys_are_not_taken_again(tmp_path, time):
    """Files that still lie in the store are below the floor: listed whole, touched or not, they send nothing."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        live(ferry, time, range(1, 11))
        assert keep_days(ferry, 4)["objects"] > 3
        report = ferry.index(full=True)
        assert (len(report.discovery.found), report.discovery.before_start > 3) == (0, True)
        ferry.restart()
        assert len(ferry.index(full=True).discovery.found) == 0
        ferry.put("2026/03/02/00/a.ndjson", events(100, 200))  # synchronised anew: another version of a pruned key
        assert len(ferry.index(full=True).discovery.found) == 0


def test_pruned_keys_of_a_source_that_started_at_its_latest_are_not_taken_again(tmp_path, time):
    """There the files' own age decides, also for files that were written long after the date in their key."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["start"] = "latest"
        ferry.open()
        for day in range(2, 11):
            time.move_to(dt.datetime(2026, 3, day, 12))
            ferry.put(f"2026/02/{day:02}/00/late.ndjson", events(1))
            ferry.index(full=True)
            ferry.deliver()
        assert keep_days(ferry, 4)["objects"] > 3
        assert len(ferry.index(full=True).discovery.found) == 0


def test_nothing_goes_that_a_sink_still_needs(tmp_path, time):
    """A sink that lags keeps everything from its place on, however old."""
    with Ferry(tmp_path, sinks=("quick", "slow")) as ferry:
        ferry.open()
        live(ferry, time, range(1, 4))
        ferry.do("pause", sink="slow")
        for day in range(4, 11):
            time.move_to(dt.datetime(2026, 3, day, 12))
            write_day(ferry, day)
            ferry.index(full=True)
            ferry.deliver("quick")
        keep_days(ferry, 1)
        ferry.do("resume", sink="slow")
        ferry.deliver("slow")
        assert numbers(ferry.script("slow").lines()) == list(range(100, 1100))


def test_a_switched_off_sink_keeps_its_events_until_its_limit(tmp_path, time):
    """Within `pinned_for` it resumes without a gap; after it, the gap is named and the books start anew."""
    with Ferry(tmp_path, sinks=("on", "off")) as ferry:
        ferry.sinks["off"]["pinned_for"] = "3d"
        ferry.open()
        live(ferry, time, range(1, 3))
        ferry.sinks["off"]["enabled"] = False
        ferry.open()
        live(ferry, time, range(3, 5))
        keep_days(ferry, 1)
        assert ferry.book("off").waiting == 200
        live(ferry, time, range(5, 11))
        keep_days(ferry, 2)
        gap = ferry.rows(sa.select(t.messages).where(t.messages.c.event == "sink.gap"))
        assert len(gap) == 1
        lost = 1000 - 200 - ferry.book("off").waiting
        assert f"{lost} events" in gap[0].payload
        ferry.sinks["off"]["enabled"] = True
        ferry.open().deliver()
        delivered = numbers(ferry.script("off").lines())
        assert delivered == [*range(100, 300), *range(300 + lost, 1100)]
        keep_days(ferry, 2)
        assert len(ferry.rows(sa.select(t.messages).where(t.messages.c.event == "sink.gap"))) == 1


def test_one_sources_laggard_does_not_spoil_another_sources_books(tmp_path, time):
    """Two sources interleave in the log; pruning one of them leaves both balanced."""
    with Ferry(tmp_path, sources=("one", "two"), sinks=("a", "b")) as ferry:
        ferry.sinks["b"]["sources"] = ["two"]
        ferry.set_batch("a", max_events=33)
        ferry.open()
        live(ferry, time, range(1, 4))
        ferry.do("pause", sink="b")
        for day in range(4, 11):
            time.move_to(dt.datetime(2026, 3, day, 12))
            for name in ("one", "two"):
                write_day(ferry, day, name)
                ferry.index(name, full=True)
            ferry.deliver("a")
        assert keep_days(ferry, 3)["objects"] > 0
        assert ferry.book("a", "one").indexed < 700
        assert ferry.book("a", "two").indexed >= 700
        ferry.books("b")


def test_batches_over_several_files_go_whole_or_not_at_all(tmp_path, time):
    """A batch that reaches into what stays keeps all of its files."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=250)
        ferry.open()
        live(ferry, time, range(1, 8), deliver=False)
        ferry.deliver()
        live(ferry, time, range(8, 11))
        for days in (9, 7, 5, 3, 1, 0):
            keep_days(ferry, days)
            ferry.books()
        live(ferry, time, range(11, 12))
        assert numbers(ferry.script().lines()) == list(range(100, 1200))


def test_log_positions_go_on_where_they_were(tmp_path, time):
    """Pruned bare, the log still counts on: a position is never used twice."""
    with Ferry(tmp_path, sinks=()) as ferry:
        ferry.open()
        live(ferry, time, range(1, 4))
        time.move_to("2026-03-20")
        keep_days(ferry, 1)
        with ferry.ledger.read() as tx:
            assert log.head(tx) == 3
        live(ferry, time, range(21, 22))
        with ferry.ledger.read() as tx:
            assert log.head(tx) == 4


def test_waiting_dead_letters_outlive_everything(tmp_path, time):
    """What a person has not decided about stays, with its bytes."""
    from tests.scripted import refusing

    with Ferry(tmp_path) as ferry:
        ferry.script().behave = refusing(b'"n":150}')
        ferry.open()
        live(ferry, time, range(1, 4))
        time.move_to("2026-06-01")
        keep_days(ferry, 1)
        assert [letter.body is not None for letter in ferry.letters()] == [True]


def test_a_cursor_in_the_middle_of_a_segment_keeps_it(tmp_path, time):
    """A sink that has half a segment keeps the other half."""
    with Ferry(tmp_path) as ferry:
        ferry.set_batch(max_events=30)
        ferry.open()
        write_day(ferry, 1)
        ferry.index()
        with ferry.ledger.write() as tx:
            sinks.move_cursor(tx, 1, 1, 1, 10, 99)
        time.move_to("2026-06-01")
        keep_days(ferry, 1)
        assert len(ferry.rows(sa.select(t.segments.c.position))) == 1


def add_chain(ferry: Ferry, segments: int, batches: int) -> None:
    """Segments of a hundred events, one a file, delivered in batches of which hardly any ends where a segment does."""
    old, total = clock.now_ms() - 100 * DAY_MS, segments * 100
    shared = {"source_id": 1, "key_hash": "", "size": 100, "modified_ms": old, "seen_ms": old, "finished_ms": old}
    counts = {"bytes": 100, "lines": 100, "events": 100, "bad": 0, "blank": 0, "untimed": 0, "state": "indexed"}
    objects = [
        {"id": n, "key": f"{n}", "version": f"{n}", "digest": "", **shared, **counts} for n in range(1, segments + 1)
    ]
    placed = {"source_id": 1, "start": 0, "end": 100, "first_line": 1, "lines": 100, "events": 100, "untimed": 0}
    log_rows = [
        {"position": n, "object_id": n, "digest": "", "flags": 0, "appended_ms": old, **placed}
        for n in range(1, segments + 1)
    ]
    edges = [(n * (total - 50)) // batches for n in range(batches + 1)]
    sent = {
        "sink_id": 1,
        "source_id": 1,
        "epoch": 1,
        "body_bytes": 0,
        "body_digest": "",
        "transform": "",
        "parts": "[]",
    }
    rows = [
        {
            "id": f"{low}", "from_position": low // 100 + 1, "from_byte": low % 100,
            "to_position": (high - 1) // 100 + 1, "to_byte": (high - 1) % 100 + 1,
            "order_position": low // 100 + 1, "order_byte": low % 100,
            "read_events": high - low, "events": high - low, "state": "delivered", "created_ms": old, **sent,
        }
        for low, high in itertools.pairwise(edges)
    ]  # fmt: skip
    with ferry.ledger.write() as tx:
        for table, values in ((t.objects, objects), (t.segments, log_rows), (t.batches, rows)):
            tx.execute(sa.insert(table), values)
        sinks.move_cursor(tx, 1, 1, segments, 50, 50)


def test_a_steady_backlog_does_not_keep_everything(tmp_path):
    """Batches that end inside segments are no reason to keep what is before them; a long chain goes quickly."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        add_chain(ferry, 15_000, 20_000)
        before = ferry.book()
        assert (before.indexed, before.waiting) == (1_500_000, 50)
        began = clock.monotonic()
        counts = keep_days(ferry, 4)
        assert clock.monotonic() - began < 10  # it took minutes; about a second is usual
        assert counts["batches"] > 19_990
        assert counts["segments"] == counts["objects"] > 14_990
        assert (ferry.book().indexed < 1000, ferry.book().waiting) == (True, 50)
        assert ferry.sink().id == 1
        assert keep_days(ferry, 4)["segments"] == 0


@pytest.mark.parametrize("pages", range(4))
def test_the_books_balance_wherever_pruning_is_killed(tmp_path, pages, monkeypatch):
    """Each page is consistent in itself, and the next pruning goes on from there."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        add_chain(ferry, 60, 83)
        monkeypatch.setattr(prune_module, "PAGE", 10)
        page, left = prune_module._prune_page, [pages]

        def killed(*args: object) -> dict[str, int]:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return page(*args)

        monkeypatch.setattr(prune_module, "_prune_page", killed)
        with pytest.raises(KeyboardInterrupt):
            keep_days(ferry, 4)
        assert ferry.book().waiting == 50
        assert ferry.book().indexed < 6000 or not pages
        monkeypatch.setattr(prune_module, "_prune_page", page)
        assert keep_days(ferry, 4)["batches"] > 0
        assert ferry.book().waiting == 50


def test_pruning_keeps_messages_that_wait_and_forgets_what_is_resolved(tmp_path, time):
    """A message that its channel did not get yet stays, however old; a condition that is over goes."""
    with Ferry(tmp_path) as ferry:
        ferry.open()
        with ferry.ledger.write() as tx:
            for cause in ("over", "open"):
                alerts.open_condition(tx, cause=cause, level="error", event="x.y", subject="s")
            sends.add_send(tx, 1, "slack")
            sends.add_send(tx, 2, "slack")
            sends.record_sent(tx, 1, "slack", clock.now_ms())
            alerts.close_condition(tx, "over")
        time.move_to("2026-06-01")
        counts = keep_days(ferry, 4)
        assert (counts["messages"], counts["conditions"]) == (1, 1)
        assert ferry.rows(sa.select(t.messages.c.id)) == [(2,), (3,)]  # sending, and not routed
        assert list(ferry.conditions()) == ["open"]


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_an_export_under_way_may_select_stays_for_a_day(tmp_path, time, state):
    """Older segments than its range begins with go all the same; what it covers goes once it ended, or took a day."""
    with Ferry(tmp_path) as ferry:
        ferry.top["pull"] = {"enabled": True}
        ferry.open()
        live(ferry, time, range(1, 11))
        desk = app.build_desk(ferry.ledger, ferry.config)
        [third] = ferry.rows(
            sa.select(t.segments.c.time_min, t.segments.c.position).order_by(t.segments.c.position).offset(2).limit(1)
        )
        row = ask(desk, selection=Selection(start_ms=third.time_min))
        if state == "running":
            with ferry.ledger.write() as tx:
                exports.start(tx, row.id)
        assert keep_days(ferry, 4)["segments"] == 2
        assert ferry.rows(sa.select(sa.func.min(t.segments.c.position))) == [(third.position,)]
        time.tick(dt.timedelta(days=1, seconds=1))
        assert keep_days(ferry, 4)["segments"] > 1


def test_what_was_asked_for_while_pruning_stays(tmp_path, time, monkeypatch):
    """Between two pages an export of everything is queued: nothing goes after that, until it ended."""
    with Ferry(tmp_path) as ferry:
        ferry.top["pull"] = {"enabled": True}
        ferry.open()
        live(ferry, time, range(1, 11))
        desk = app.build_desk(ferry.ledger, ferry.config)
        monkeypatch.setattr(prune_module, "PAGE", 1)
        own, asked = prune_module._page_end, []

        def asking(*args: object) -> int:
            end = own(*args)
            if args[2]:  # not before the first page
                asked.append(ask(desk))
            return end

        with monkeypatch.context() as patch:
            patch.setattr(prune_module, "_page_end", asking)
            assert keep_days(ferry, 4)["segments"] == 1
        with ferry.ledger.write() as tx:
            for row in asked:
                exports.ask_cancel(tx, row.id)
        assert keep_days(ferry, 4)["segments"] > 3


def test_what_became_of_a_file_is_known_as_long_as_its_events_are(tmp_path, time):
    """A touched file is read by its last version: that stays while the log holds what the first one brought."""
    with Ferry(tmp_path) as ferry:
        ferry.top["pull"] = {"enabled": True}
        ferry.open()
        live(ferry, time, range(1, 3))
        write_day(ferry, 1)
        ferry.index(full=True)
        assert [each.state for each in ferry.objects()].count("unchanged") == 1
        time.move_to(dt.datetime(2026, 3, 20, 12))
        row = ask(app.build_desk(ferry.ledger, ferry.config))
        assert keep_days(ferry, 4)["objects"] == 0
        with ferry.ledger.write() as tx:
            exports.ask_cancel(tx, row.id)
        assert keep_days(ferry, 4)["objects"] == 2
