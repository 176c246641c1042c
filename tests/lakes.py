"""What contract tests of lake tables share: promises beyond the kit's, reading files back, places that fail."""

import datetime as dt
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Barrier
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest

from eventferry.sink import Batch, Sink, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink


class LakePromises(SinkPromises):
    """The contract, and what every type keeps that appends to a table of a lake."""

    lake: ClassVar[str]  # the type, as the configuration names it
    integer: ClassVar[str]  # how its columns are said to hold integers
    ddl: ClassVar[str]  # how its statement adds the integer column n
    undated: ClassVar[str]  # the folder of events without a time, where a table is partitioned by day

    def place(self, folder: str) -> dict[str, Any]:
        """The options of a table in a folder."""
        raise NotImplementedError

    def remote(self, endpoint: str) -> dict[str, Any]:
        """The options of a table that is reached at an endpoint, with secrets."""
        raise NotImplementedError

    def files(self, folder: str) -> list[str]:
        """The files of the table in a folder, as they were added."""
        raise NotImplementedError

    def fail_commit(self, sink: Any, *, after: bool) -> None:
        """Let the next commit of an open sink fail, before or after it took effect."""
        raise NotImplementedError

    def make(self, **options: Any) -> Sink[Any]:
        """A sink on the one table of the test."""
        return make_sink(self.lake, "lake", {**self.place(str(self.tmp_path)), "create": True, **options})

    def events(self) -> list[bytes]:
        return events_in(self.files(str(self.tmp_path)))

    def rows(self) -> list[dict[str, Any]]:
        return [row for path in self.files(str(self.tmp_path)) for row in pq.ParquetFile(path).read().to_pylist()]

    @contextmanager
    def healthy(self, **options: Any) -> Iterator[Target]:
        folder = tempfile.mkdtemp(dir=self.tmp_path)
        given = self.place(folder) | options
        yield Target(lambda: self.make(**given), lambda: events_in(self.files(folder)))

    def with_columns(self, columns: dict[str, Any]) -> AbstractContextManager[Target]:
        return self.healthy(columns=columns)

    @contextmanager
    def unreachable(self) -> Iterator[Target]:
        with absent() as url:
            yield Target(lambda: make_sink(self.lake, "lake", self.remote(url)))

    def misconfigured(self) -> AbstractContextManager[Target]:
        return self.healthy(create=False)

    @contextmanager
    def hanging(self) -> Iterator[Target]:
        with silent() as url:
            yield Target(lambda: make_sink(self.lake, "lake", {**self.remote(url), "timeout": self.deadline}))

    @contextmanager
    def losing_reply(self, *, after: bool = True) -> Iterator[Target]:
        made: list[Sink[Any]] = []
        with self.healthy() as target:

            def sink() -> Sink[Any]:
                made.append(target.sink())
                return made[-1]

            yield Target(sink, target.arrived, arm=lambda: self.fail_commit(made[-1], after=after))

    def crashing_before(self) -> AbstractContextManager[Target]:
        return self.losing_reply(after=False)

    def test_columns_and_days(self) -> None:
        """Columns hold what fits, NULL otherwise; with partition = "day" the events of a UTC day share a folder."""
        events = [
            b'{"event_type":"a","event_timestamp":1714564800000,"n":7}',
            b'{"event_type":"b","event_timestamp":"2024-05-02T00:30:00+02:00","n":"many"}',
            b'{"n":1.5}',
        ]
        with self.make(partition="day", columns={"n": {"path": "n", "type": "integer"}}) as sink:
            sink.deliver(make_batch(events))
            assert sink.counts == {("values.misfitted", "n"): 2}
        noon = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
        late = dt.datetime(2024, 5, 1, 22, 30, tzinfo=dt.UTC)
        rows = {row["event"].encode(): (row["event_time"], row["event_type"], row["n"]) for row in self.rows()}
        assert rows == dict(zip(events, [(noon, "a", 7), (late, "b", None), (None, None, None)], strict=True))
        folders = sorted(path.split("/")[-2] for path in self.files(str(self.tmp_path)))
        assert folders == ["event_date=2024-05-01", self.undated]

    def test_schema_contracts(self) -> None:
        """A column that is configured later is added, held against, or left out and counted, as the contract says."""
        more = {"n": {"path": "n", "type": "integer"}}
        with self.make() as sink:
            sink.deliver(make_batch(sample_events(1)))
        with (
            self.make(columns=more, schema_contract="freeze") as sink,
            pytest.raises(SinkMisconfigured, match=rf"ADD COLUMNS \({self.ddl}\)"),
        ):
            sink.deliver(make_batch(sample_events(1, 1)))
        with self.make(columns=more, schema_contract="discard") as sink:
            sink.deliver(make_batch(sample_events(1, 1)))
            assert sink.counts == {("values.discarded", "n"): 1}
        with self.make(columns=more) as sink:
            assert "adds n" in list(sink.check())[-1]
            sink.deliver(make_batch(sample_events(1, 2)))
            assert sink.counts == {("columns.added", "n"): 1}
        assert [row.get("n", "no column") for row in self.rows()] == ["no column", "no column", 2]
        with (
            self.make(columns={"n": "n"}) as sink,
            pytest.raises(SinkMisconfigured, match=f"is {self.integer}, but string"),
        ):
            sink.deliver(make_batch(sample_events(1, 3)))

    def test_an_attempt_that_was_given_up_cannot_repeat_a_batch(self) -> None:
        """Of two attempts of one batch at the same moment one fails at its commit, and its repeat finds the other."""
        with self.make() as sink:
            sink.deliver(make_batch(sample_events(1)))
        batch = make_batch(sample_events(3, 1))
        failed = [error for error in deliver_twins(self.make, batch) if error is not None]
        assert [error.untouched for error in failed] == [True]
        with self.make() as sink:
            sink.deliver(batch)
        assert sorted(self.events()) == sorted(sample_events(4))


def deliver_twins(make: Callable[[], Sink[Any]], batch: Batch) -> list[SinkUnavailable | None]:
    """What two attempts of one batch come to (None: taken), neither of which found the other's when it looked."""
    meeting = Barrier(2, timeout=30)

    def attempt(_: int) -> SinkUnavailable | None:
        with make() as sink:
            looked: Any = sink
            has = looked._has
            looked._has = lambda *args: (has(*args), meeting.wait())[0]
            try:
                sink.deliver(batch)
            except SinkUnavailable as error:
                return error
        return None

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(attempt, range(2)))


def events_in(files: Iterable[str], filesystem: Any = None) -> list[bytes]:
    """The raw events of Parquet files, file by file. Read without the libraries that wrote them."""
    found: list[bytes] = []
    for path in files:
        found += [
            event.encode() for event in pq.ParquetFile(path, filesystem=filesystem).read(["event"])[0].to_pylist()
        ]
    return found


@contextmanager
def absent() -> Iterator[str]:
    """An endpoint at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Failing:
    """Stands for an object of a library: its method `name` fails once with a broken connection, before or after it
    did its work."""

    def __init__(self, inner: Any, name: str, *, after: bool) -> None:
        self._inner, self._name, self._after, self._done = inner, name, after, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._name or self._done:
            return found
        return self._once(found)

    def _once(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._done = True
            if self._after:
                method(*args, **kwargs)
            raise ConnectionResetError(104, os.strerror(104))

        return call
