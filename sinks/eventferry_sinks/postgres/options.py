"""The options of the type `postgres`."""

from typing import Self

from pydantic import model_validator

from eventferry.sink.books import BOOKS
from eventferry.sink.columns import Column, Path
from eventferry.sink.postgresql.options import ServerOptions
from eventferry_sinks.postgres.table import Design, EventType

EVENT_ID = "event_id"


class PostgresOptions(ServerOptions):
    """Which server, which table, which columns, and what makes an event unique."""

    event_as: EventType = "jsonb"
    unique_event_id: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.place[1].casefold() in BOOKS:
            raise ValueError(f"table {self.table!r} is where what was delivered is written down; expected another name")
        if self.unique_event_id and EVENT_ID in {name.casefold() for name in self.columns}:
            raise ValueError(f"column {EVENT_ID!r} is the one of `unique_event_id`; expected another name")
        return self

    def design(self) -> Design:
        """The table as it should be."""
        columns = self.all_columns()
        if self.unique_event_id:
            columns[EVENT_ID] = Column(path=(self.unique_event_id,))
        schema, name = self.place
        unique = EVENT_ID if self.unique_event_id else None
        return Design(schema, name, columns, self.event_as, self.schema_contract, unique)
