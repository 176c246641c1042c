"""The books of a table say what it was given, however batches were cut, repeated and replaced."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.sink.batch import Part
from eventferry.sink.books import BATCH_COLUMNS, BATCHES, PART_COLUMNS, PARTS, Books, number_of
from eventferry.sink.kit import cut_batch, replacing_batch, sample_events

FILES = [sample_events(7), sample_events(5, 7), sample_events(8, 12)]
EPOCHS = st.sampled_from(["kit", "kit#2", "kit#3", "other"])
# What is sent: a cut under an epoch; and, by numbers, which of the earlier batches it replaces.
SENDS = st.lists(
    st.tuples(st.integers(0, 19), st.integers(1, 20), EPOCHS, st.lists(st.integers(0, 9), max_size=3)),
    max_size=10,
)


class Table:
    """An events table with its books, in SQLite."""

    def __init__(self, file, name="events"):
        self.file, self.name = file, name
        self.books = Books(name, f'"{name}"', mark="?")
        file.execute(f'CREATE TABLE "{name}" (event TEXT, batch_id TEXT)')
        for books, columns, key in (
            (BATCHES, BATCH_COLUMNS, ", PRIMARY KEY (table_name, batch_id)"),
            (PARTS, PART_COLUMNS, ""),
        ):
            file.execute(f"CREATE TABLE IF NOT EXISTS {books} ({', '.join(columns)}{key})")

    def deliver(self, batch):
        cursor = self.file.cursor()
        if self.books.was_recorded(cursor, batch):
            return
        if batch.replaces:
            self.books.forget(cursor, batch)
        lines = batch.lacking(self.books.recorded_parts(cursor, batch)).splitlines()
        cursor.executemany(f'INSERT INTO "{self.name}" VALUES (?, ?)', [(line, batch.id) for line in lines])
        self.books.record(cursor, batch, len(lines))

    def rows(self):
        return sorted(self.file.execute(f'SELECT event, batch_id FROM "{self.name}"'))


class Model:
    """The same in sets: each batch with its rows, and with the ranges that it stands for, under their epochs."""

    def __init__(self):
        self.lines, self.ranges = {}, {}

    def deliver(self, batch):
        if batch.id in self.lines:
            return
        mine = {(batch.epoch, part.content, part.start, part.end) for part in batch.parts}
        passed = set()
        for id_ in batch.replaces:
            self.lines.pop(id_, None)
            ranges = self.ranges.pop(id_, set())
            if all(_is_within(each, mine) for each in ranges):
                passed |= {each for each in ranges if each[0] != batch.epoch}
        known = [each for ranges in self.ranges.values() for each in ranges if each[0] == batch.epoch]
        lines = []
        for number, line in enumerate(batch.lines()):
            content, byte = _place(batch, number)
            if not any(there == content and start <= byte < end for _, there, start, end in known):
                lines.append(line)
        self.lines[batch.id], self.ranges[batch.id] = lines, mine | passed

    def rows(self):
        return sorted((line, id_) for id_, lines in self.lines.items() for line in lines)


def _is_within(inner, ranges):
    _, content, start, end = inner
    return any(content == there and low <= start and end <= high for _, there, low, high in ranges)


def _place(batch, number):
    """The content and the byte at which an event of the batch begins."""
    for part in batch.parts:
        if number < part.events:
            lines = next(lines for lines in FILES if cut_batch([lines], 0, 99).parts[0].digest == part.digest)
            bytes_ = part.start
            starts = [sum(len(each) + 1 for each in lines[:n]) for n in range(len(lines))]
            return part.content, [each for each in starts if each >= bytes_][number]
        number -= part.events
    raise AssertionError(number)


def _batches(sends):
    made = []
    for low, high, epoch, replaced in sends:
        first, last = sorted((low, high))
        if first == last:
            continue
        batch = cut_batch(FILES, first, last, epoch)
        ids = tuple(dict.fromkeys(made[each].id for each in replaced if each < len(made)))
        if ids:
            batch = replacing_batch(batch, list(batch.lines()), *(each for each in ids if each != batch.id))
        made.append(batch)
    return made


@pytest.fixture
def file():
    with closing(sqlite3.connect(":memory:")) as one:
        yield one


@settings(max_examples=150)
@given(SENDS)
def test_the_table_holds_what_the_model_holds(sends):
    """Repeats, other cuts, other epochs and replacements leave exactly the rows that a plain model has."""
    with closing(sqlite3.connect(":memory:")) as file:
        table, model = Table(file), Model()
        for batch in _batches(sends):
            for _ in range(2):  # each is repeated at once: that changes nothing
                table.deliver(batch)
                model.deliver(batch)
                assert table.rows() == model.rows()
        for batch in _batches(sends):
            cursor = file.cursor()
            assert table.books.was_recorded(cursor, batch) == (batch.id in model.lines)
            known = {(part.content, part.start, part.end) for part in table.books.recorded_parts(cursor, batch)}
            contents = {part.content for part in batch.parts}
            assert known == {
                each[1:]
                for id_, ranges in model.ranges.items()
                for each in ranges
                if each[0] == batch.epoch and each[1] in contents and id_ != batch.id
            }
            assert set(table.books.strangers(cursor, batch)) == {
                id_
                for id_, ranges in model.ranges.items()
                if id_ != batch.id
                and any(batch.overlaps(Part(*there, start, end, 0), epoch) for epoch, there, start, end in ranges)
            }


def test_two_tables_share_books_and_nothing_else(file):
    """The same batch goes into each, and what one forgets stays in the other."""
    one, two = Table(file, "one"), Table(file, "two")
    batch = cut_batch(FILES, 0, 20)
    for table in (one, two):
        table.deliver(batch)
        assert len(table.rows()) == 20
    one.deliver(replacing_batch(batch, [], batch.id))
    assert (len(one.rows()), len(two.rows())) == (0, 20)
    assert two.books.was_recorded(file.cursor(), batch)


def test_a_twin_fails_on_the_key(file):
    """Two transactions that both find nothing cannot both write: the database's own key stops the second."""
    table, batch = Table(file), cut_batch(FILES, 0, 20)
    table.books.record(file.cursor(), batch, 20)
    with pytest.raises(sqlite3.IntegrityError):
        table.books.record(file.cursor(), batch, 20)


def test_thousands_of_replaced_ids_fit_into_statements(file):
    """Lists are cut where a statement would have too many values."""
    table, batch = Table(file), cut_batch(FILES, 0, 20)
    table.deliver(batch)
    table.deliver(replacing_batch(batch, [b"{}"], *(f"{number:032x}" for number in range(2_000)), batch.id))
    assert [event for event, _ in table.rows()] == [b"{}"]


def test_the_number_of_a_content_fits_64_bits():
    """It is signed, and tells contents apart that are cut elsewhere within their names."""
    parts = [Part("a", "bc", "d", 0, 1, 1), Part("ab", "c", "d", 0, 1, 1)]
    numbers = [number_of(part) for part in parts]
    assert len(set(numbers)) == 2
    assert all(-(2**63) <= number < 2**63 for number in numbers)
