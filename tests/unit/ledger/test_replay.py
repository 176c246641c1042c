"""Replays of many batches: page by page, and the same again after a crash."""

import sqlalchemy as sa
from tests.builders import HOUR, Ferry, events, numbers

from eventferry.ledger import replay
from eventferry.ledger import tables as t

DAY = {"from": "2026-01-02", "to": "2026-01-02"}


def delivered(ferry: Ferry) -> Ferry:
    """Twenty batches of an event each."""
    ferry.set_batch(max_events=1)
    ferry.put(f"{HOUR}/a.ndjson", events(20))
    ferry.open()
    ferry.index()
    ferry.deliver()
    return ferry


def test_an_interrupted_replay_goes_on_in_its_epoch(tmp_path, monkeypatch):
    """Killed between two pages and asked for again, it plans each batch once; the next replay is a new one."""
    monkeypatch.setattr(replay, "PAGE", 6)
    with Ferry(tmp_path) as ferry:
        delivered(ferry)
        real, pages = replay._copies, []

        def killed(*args):
            pages.append(args)
            if len(pages) == 3:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(replay, "_copies", killed)
        try:
            ferry.do("replay", sink="out", mode="again", **DAY)
        except KeyboardInterrupt:
            assert len(ferry.batches()) == 32
        ferry.do("replay", sink="out", mode="again", **DAY)
        assert len(ferry.batches()) == 40
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(20), *range(20)]
        assert ferry.book().delivered == 20
        ferry.do("replay", sink="out", mode="again", **DAY)
        assert len(ferry.batches()) == 60
        assert ferry.rows(sa.select(t.meta.c.key).where(t.meta.c.key.startswith("replay:"))) == []


def test_a_repair_in_pages_reopens_each_batch_once(tmp_path, monkeypatch):
    """However many pages, what is said is how many batches go again."""
    monkeypatch.setattr(replay, "PAGE", 6)
    with Ferry(tmp_path) as ferry:
        delivered(ferry)
        assert ferry.do("replay", sink="out", mode="missing", **DAY).startswith("20 batches")
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [*range(20), *range(20)]
        assert numbers(ferry.script().lines_once()) == list(range(20))
