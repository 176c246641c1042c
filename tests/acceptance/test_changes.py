"""Files that change after they were delivered: touched, grown, replaced, put back."""

import pytest
from tests.builders import HOUR, Ferry, event, events, numbers, put

KEY = f"{HOUR}/a.ndjson"


def at_work(ferry: Ferry, content: bytes, key: str = KEY) -> None:
    """A file delivered."""
    ferry.put(key, content, age=7200)
    ferry.open()
    through(ferry)


def through(ferry: Ferry) -> None:
    ferry.index()
    ferry.deliver()
    assert ferry.source_book().balance


def change(ferry: Ferry, content: bytes, age: float, key: str = KEY) -> None:
    put(ferry.home / "events", key, content, age=age)
    through(ferry)


def test_a_new_version_with_equal_bytes_sends_nothing(tmp_path):
    """Touched, restored, synchronised again, even compressed otherwise: recorded as unchanged."""
    with Ferry(tmp_path) as ferry:
        at_work(ferry, events(10))
        change(ferry, events(10), 3600)
        change(ferry, events(10), 1800)
        assert [row.state for row in ferry.objects()] == ["indexed", "unchanged", "unchanged"]
        assert len(ferry.script().calls) == 1


def test_a_grown_file_sends_only_its_new_lines(tmp_path):
    """An appended file is read anew and delivers what was appended, with the right line numbers and books."""
    with Ferry(tmp_path) as ferry:
        at_work(ferry, events(10))
        change(ferry, events(25), 3600)
        change(ferry, events(27), 1800)
        assert [numbers(batch.lines()) for batch in ferry.script().calls] == [
            list(range(10)),
            list(range(10, 25)),
            [25, 26],
        ]
        assert ferry.script().calls[1].place(0) == f"{KEY}:11"
        assert (ferry.source_book().events, ferry.book().delivered) == (27, 27)


def test_a_grown_gzip_file_sends_only_its_new_lines(tmp_path):
    """What counts is the decompressed content."""
    with Ferry(tmp_path) as ferry:
        key = f"{HOUR}/a.ndjson.gz"
        at_work(ferry, events(1000), key)
        change(ferry, events(1500), 3600, key)
        assert numbers(ferry.script().lines()) == list(range(1500))


def test_a_file_that_grew_before_its_first_lines_were_delivered(tmp_path):
    """The old version is gone, its bytes are still there: nothing is lost, nothing doubled."""
    with Ferry(tmp_path) as ferry:
        ferry.put(KEY, events(10), age=7200)
        ferry.open()
        ferry.index()
        put(tmp_path / "events", KEY, events(25), age=3600)
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == list(range(25))
        assert ferry.book().missing == 0


def test_replaced_content_is_held_until_a_person_decides(tmp_path):
    """Other bytes under a delivered key are told and not sent; released, they are."""
    with Ferry(tmp_path) as ferry:
        at_work(ferry, events(10))
        change(ferry, events(5, 100), 3600)
        assert len(ferry.script().calls) == 1
        (row,) = ferry.objects(state="held")
        assert "replaced" in ferry.conditions()["file.held:events"].detail
        ferry.do("files.retry", ids=[row.id], release=True)
        assert "file.held:events" in ferry.conditions()
        through(ferry)
        assert ferry.conditions() == {}
        assert numbers(ferry.script().lines()) == [*range(10), *range(100, 105)]


def test_replaced_content_is_delivered_where_the_source_says_so(tmp_path):
    """on_change = "deliver": the new version is sent whole."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["on_change"] = "deliver"
        at_work(ferry, events(10))
        change(ferry, events(5, 100), 3600)
        assert numbers(ferry.script().lines()) == [*range(10), *range(100, 105)]


@pytest.mark.parametrize("on_change", ["hold", "deliver"])
def test_content_put_back_as_it_was_appends_nothing(tmp_path, on_change):
    """A, then B, then A again: A was delivered once, under whatever rule."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["on_change"] = on_change
        at_work(ferry, events(10))
        change(ferry, events(5, 100), 3600)
        change(ferry, events(10), 1800)
        assert ferry.objects()[-1].state == "unchanged"
        assert numbers(ferry.script().lines())[:10] == list(range(10))
        assert numbers(ferry.script().lines()).count(0) == 1


def test_a_grown_file_cut_back_and_grown_again_doubles_nothing(tmp_path):
    """Truncated to what it was and written again: every event has arrived once."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["on_change"] = "deliver"
        at_work(ferry, events(10))
        change(ferry, events(20), 3600)
        change(ferry, events(10), 1800)
        change(ferry, events(20), 900)
        assert numbers(ferry.script().lines()) == list(range(20))


def test_a_deleted_and_restored_file_sends_nothing_new(tmp_path):
    """Gone from the store and back with the same bytes: nothing to do."""
    with Ferry(tmp_path) as ferry:
        at_work(ferry, events(10))
        (tmp_path / "events" / KEY).unlink()
        through(ferry)
        change(ferry, events(10), 1800)
        assert len(ferry.script().calls) == 1


def test_a_file_whose_last_line_was_open_is_not_taken_for_grown(tmp_path):
    """A last line without newline was sent as an event; going on in the same line is other content, and is held."""
    with Ferry(tmp_path) as ferry:
        at_work(ferry, events(3)[:-1])
        change(ferry, events(3)[:-2] + b',"more":1}\n' + event(3), 3600)
        assert ferry.objects()[-1].state == "held"
        assert numbers(ferry.script().lines()) == [0, 1, 2]
