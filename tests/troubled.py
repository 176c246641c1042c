"""A duckdb sink that a test can make refuse, or fail at the worst moment: type = "tests.troubled:TroubledSink"."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from eventferry.sink import Batch
from eventferry_sinks.duckdb.sink import DuckdbSink


def _nothing(batch: Batch) -> None: ...


@dataclass
class Trouble:
    """What goes wrong with one file."""

    before: Callable[[Batch], None] = _nothing  # nothing was written yet
    after: Callable[[Batch], None] = _nothing  # everything is committed
    calls: list[Batch] = field(default_factory=list)


TROUBLES: defaultdict[str, Trouble] = defaultdict(Trouble)


class TroubledSink(DuckdbSink):
    def deliver(self, batch: Batch) -> None:
        trouble = TROUBLES[str(self.options.path)]
        trouble.calls.append(batch)
        trouble.before(batch)
        super().deliver(batch)
        trouble.after(batch)
