"""Inserts events into a table in ClickHouse: one insert a batch, under a token by which the table drops a repeat."""

from collections.abc import Iterator, Mapping

from eventferry.sink import (
    Batch,
    BatchLimits,
    Guarantee,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.columns import BATCH_ID, EVENT
from eventferry.sink.http import HttpClient
from eventferry.sink.tables import Fit, count_columns, fit_columns, no_table
from eventferry_sinks.clickhouse.body import Writer
from eventferry_sinks.clickhouse.options import ClickhouseOptions
from eventferry_sinks.clickhouse.server import Server
from eventferry_sinks.clickhouse.table import (
    TOKEN,
    WINDOW,
    Abilities,
    Table,
    abilities_of,
    add_statement,
    bare,
    create_statement,
    quoted,
    table_of,
    takes,
)


class ClickhouseSink(Sink[ClickhouseOptions]):
    """A batch is one block under one deduplication token, its id, which stands in the column batch_id as well.

    The table drops a repeat within its window; beyond it, a repeat that is known as one looks for the batch's id first.
    """

    Options = ClickhouseOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "chdb 26.9 behind an HTTP front of the tests"
    max_concurrency = 4
    limits = BatchLimits(max_events=100_000, max_bytes=32 * 1024 * 1024)

    _server: Server | None = None
    _abilities: Abilities
    _table: Table | None = None
    _may_look = True  # for a batch's id, as far as is known
    _fit: Fit

    def open(self) -> None:
        options = self.options
        client = HttpClient(
            timeout=options.timeout, ca_file=options.ca_file, headers=options.headers(), secrets=options.secrets()
        )
        self._server = Server(client, options.url, options.secrets())
        self._server.begin(options.timeout)
        try:
            self._abilities = abilities_of(self._server)
            self._look(self._server)
        except BaseException:
            self.close()
            raise

    def deliver(self, batch: Batch) -> None:
        server = self._opened()
        table = self._prepare(server)
        if not batch.events:
            return
        stored = self._stored(server, batch) if batch.attempt > 1 else 0
        if stored is not None and stored >= batch.events:
            return
        writer = Writer(self.options.all_columns(), self._written(table), self.count)
        settings = {**self.options.settings, **self._abilities.insert_settings(batch.id, batch.events)}
        # The server refuses a second statement of the same id while the first one runs.
        server.insert(self._insert(table), writer.lines(batch), settings, self.options.compression, batch.id)
        if stored:
            self._complete(server, batch)

    def was_delivered(self, batch: Batch) -> bool | None:
        server = self._opened()
        if self._table is None:
            return False
        # Asked first: an insert that ends between the two questions is counted by the second one.
        running = server.select_if_allowed(
            f"SELECT count() FROM system.processes WHERE query_id = '{_id(batch)}'"  # noqa: S608 - hex digits
        )
        stored = self._stored(server, batch)
        if stored is None:
            return None
        if stored >= batch.events:
            return True
        if running is not None and int(running[0][0]):  # it may still end well, and then no half may stand beside it
            raise SinkUnavailable(f"{server.who}: an insert of batch {batch.id} still runs")
        # Where nobody may ask, one may run as well; and another replica may have what this one lacks.
        if stored or running is None:
            return None
        return False if self._table.is_alone else None

    def check(self) -> Iterator[str]:
        server, options = self._opened(), self.options
        yield f"{server.who} is ClickHouse {self._abilities.version} and takes the user {options.user or 'default'}"
        table = self._table
        if table is None:
            yield f"table {self._place} is not there; the first batch makes it ({options.engine})"
            return
        columns = self._abilities.columns(options.all_columns())
        rest = [f"{len(self._fit.added)} more are added with the first batch"] if self._fit.added else []
        rest += [f"{name} is left out" for name in self._fit.discarded]
        have = len(columns) - len(self._fit.added) - len(self._fit.discarded)
        yield "; ".join([f"table {self._place} ({table.engine}) has {have} of {len(columns)} columns", *rest])
        if not self._fit.added:
            server.try_insert(self._insert(table), {**options.settings, **self._abilities.insert_settings("", 0)})
            yield "an insert is allowed (tried without events)"
        if not self._may_look:
            grant = f"GRANT SELECT({BATCH_ID}) ON {self._place}"
            yield f"the user may not read {BATCH_ID}, so that an old repeat is not noticed; {grant}"
        yield self._claim(table)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    @property
    def _place(self) -> str:
        return f"{self.options.database}.{self.options.table}"

    @property
    def _quoted_place(self) -> str:
        return f"{quoted(self.options.database)}.{quoted(self.options.table)}"

    def _opened(self) -> Server:
        """The server, with the clock of this call started."""
        if self._server is None:
            raise RuntimeError("not open")
        self._server.begin(self.options.timeout)
        return self._server

    def _look(self, server: Server) -> None:
        """Take down how the table stands, and what it can promise."""
        options = self.options
        self._table = table_of(server, options.database, options.table, self._abilities)
        if self._table is None:
            if not options.create:
                raise no_table(f"{self._place} that this user may see", self._create())
            self.guarantee = self._judge(TOKEN in self._abilities.settings)
            return
        if self._table.engine == "Buffer":
            raise SinkMisconfigured(
                f"{self._place} is a Buffer, which loses what it holds in memory; configure the table behind it"
            )
        self._fit = self._fitted(self._table)
        if BATCH_ID in self._table.columns:
            look = f"SELECT {BATCH_ID} FROM {self._quoted_place} LIMIT 0"  # noqa: S608 - quoted
            self._may_look = server.select_if_allowed(look) is not None
        # A window forgets: what came long ago is found by its batch's id alone.
        self.guarantee = self._judge(self._table.window > 0 and self._may_look)

    def _judge(self, drops_repeats: bool) -> Guarantee:
        return Guarantee.EFFECTIVELY_ONCE if drops_repeats else Guarantee.AT_LEAST_ONCE_KEYED

    def _fitted(self, table: Table) -> Fit:
        columns = self.options.all_columns()
        wanted = self._abilities.columns(columns)
        there: dict[str, str] = {}
        for name, kind in wanted.items():
            present = table.columns.get(name)  # names that differ in case are two columns here
            if present is not None:
                accepted = takes(present, columns[name].type) if name in columns else bare(present) == "String"
                there[name.casefold()] = kind if accepted else present
        return fit_columns(
            wanted,
            there,
            self.options.schema_contract,
            f"table {self._place}",
            lambda added: add_statement(self._quoted_place, added, self._abilities),
        )

    def _prepare(self, server: Server) -> Table:
        """The table, made and widened where that is asked for."""
        if self._table is None:
            server.execute(self._create())
            self._look(server)
        elif self._fit.added:
            added = self._fit.added
            server.execute(add_statement(self._quoted_place, added, self._abilities))
            self._look(server)
            count_columns(self, {}, added=added)
        if self._table is None or self._fit.added:
            raise SinkMisconfigured(
                f"table {self._place} was made or widened, but this user does not see it so; grant SHOW on it"
            )
        return self._table

    def _create(self) -> str:
        columns = self._abilities.columns(self.options.all_columns())
        return create_statement(self._quoted_place, columns, self.options.engine, self._abilities)

    def _written(self, table: Table) -> Mapping[str, str]:
        return {name: bare(table.columns[name]) for name in self._fit.written}

    def _insert(self, table: Table) -> str:
        names = ", ".join(map(quoted, [*self._written(table), BATCH_ID, EVENT]))
        return f"INSERT INTO {self._quoted_place} ({names}) FORMAT JSONEachRow"

    def _stored(self, server: Server, batch: Batch) -> int | None:
        """How many events of the batch the table holds; None where the user may not ask."""
        found = server.select_if_allowed(
            f"SELECT count() FROM {self._quoted_place} WHERE {BATCH_ID} = '{_id(batch)}'"  # noqa: S608 - hex digits
        )
        return None if found is None else int(found[0][0])

    def _complete(self, server: Server, batch: Batch) -> None:
        """A part was there, all was sent again: raise where the table took the part for the whole."""
        try:
            stored = self._stored(server, batch)
        except SinkUnavailable as error:
            raise SinkUnavailable(str(error)) from None  # the insert itself has gone well
        if stored is None or stored >= batch.events:
            return
        delete = f"DELETE FROM {self._quoted_place} WHERE {BATCH_ID} = '{batch.id}'"  # noqa: S608 - shown, not sent
        raise SinkMisconfigured(
            f"table {self._place} holds {stored} of {batch.events} events of batch {batch.id} and drops the others as a"
            f" repeat; delete these ({delete}), resume the sink, and send the events of {batch.place(0)} and its"
            " neighbours again with `eventferry replay --again`"
        )

    def _claim(self, table: Table) -> str:
        if table.window and not self._may_look:
            return f"{self.guarantee}: {table.engine} drops a repeat among the last {table.window:,} inserts only"
        if table.window:
            return (
                f"{self.guarantee}: {table.engine} drops a repeat among the last {table.window:,} inserts,"
                f" and before an older one the sink looks for its {BATCH_ID}"
            )
        if TOKEN not in self._abilities.settings:
            why = f"ClickHouse {self._abilities.version} knows no {TOKEN}"
        elif table.engine.endswith("MergeTree"):
            kind = "replicated" if table.is_replicated else "non_replicated"
            change = f"MODIFY SETTING {kind}_deduplication_window = {WINDOW}"
            why = f"its deduplication window is 0 (ALTER TABLE {self._quoted_place} {change})"
        else:
            why = f"the engine {table.engine} drops no repeats"
        return f"{self.guarantee}: {why}; a repeat looks for its {BATCH_ID} first, and may still be stored twice"


def _id(batch: Batch) -> str:
    """The batch's id, which is fit for a text in SQL."""
    if not batch.id.isalnum():
        raise ValueError("the id of a batch is hex digits")
    return batch.id
