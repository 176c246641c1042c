"""What a contract test says about its sink type, and how the promises judge what arrived."""

import contextlib
import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from eventferry.sink.base import Guarantee, Sink
from eventferry.sink.batch import Batch
from eventferry.sink.errors import SinkError
from eventferry.sink.kit.batches import NUL, make_batch, sample_events
from eventferry.sink.kit.target import Target

STRENGTH = list(Guarantee)  # the strongest first


class Places:
    """The hooks of a contract test. `healthy` is required; what a type cannot have is skipped with a sentence.

    Every hook is a context manager that yields a Target; `self.tmp_path` is an empty directory for it.
    """

    sink_type: ClassVar[type[Sink[Any]]]
    counterpart: ClassVar[str] = ""  # what the type is proved against here; equals its `proved_against`
    exact: ClassVar[bool] = True  # the bytes of an event arrive as they were; False: as equal JSON
    ordered: ClassVar[bool] = True  # batches arrive one after the other; False: they lie side by side, as files do
    takes_nul: ClassVar[bool] = True  # \u0000 in a text is taken; False: it is refused by name
    records_parts: ClassVar[bool] = False  # True: what came in batches that were cut otherwise is known, too
    options: ClassVar[dict[str, Any]] = {}  # valid options, for the tests of options
    table_option: ClassVar[str] = "table"  # the option that becomes an identifier at the other side; "" for none
    lost_replies: ClassVar[int] = 1  # how many replies are lost in a row; a thousand for a lane of faults
    secrets: ClassVar[tuple[str, ...]] = ()  # texts among the options of the failing places, never to be shown
    deadline: ClassVar[float] = 1.0  # seconds that the sink of `hanging` is configured to wait in total
    retry_after: ClassVar[float] = 7.0  # seconds that the place of `throttling` asks for
    poison: ClassVar[bytes | None] = None  # an event that the place of `poisoned` refuses, and no other
    check_sees: ClassVar[bool] = True  # check() notices the place of `misconfigured`; False: only a delivery shows it

    tmp_path: Path

    @pytest.fixture(autouse=True)
    def _give_directory(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path

    def healthy(self) -> AbstractContextManager[Target]:
        """A place that takes everything."""
        raise NotImplementedError("a contract test defines healthy()")

    def unreachable(self) -> AbstractContextManager[Target]:
        """A place that cannot be reached now, but may be later."""
        _lacks("unreachable")

    def refusing(self) -> AbstractContextManager[Target]:
        """A place that answers, and refuses whatever is sent."""
        _lacks("refusing")

    def misconfigured(self) -> AbstractContextManager[Target]:
        """A place where a person has to act: wrong credentials, a missing table or grant."""
        _lacks("misconfigured")

    def hanging(self) -> AbstractContextManager[Target]:
        """A place that takes the connection and never finishes its answer; or not that of a delivery after `arm`."""
        _lacks("hanging")

    def throttling(self) -> AbstractContextManager[Target]:
        """A place that asks for patience: `retry_after` seconds."""
        _lacks("throttling")

    def losing_reply(self) -> AbstractContextManager[Target]:
        """A place where the first delivery after `arm` takes effect and its reply is lost; then all is well."""
        _lacks("losing_reply")

    def crashing_before(self) -> AbstractContextManager[Target]:
        """A place where the first delivery after `arm` breaks off before it takes effect; then all is well."""
        _lacks("crashing_before")

    def lowering(self) -> AbstractContextManager[Target]:
        """A place that cannot keep the type's guarantee: `open` lowers it on its instance."""
        _lacks("lowering")

    def with_columns(self, columns: dict[str, Any]) -> AbstractContextManager[Target]:
        """A healthy place whose sink has these `columns` among its options."""
        _lacks("with_columns")

    def poisoned(self) -> AbstractContextManager[Target]:
        """A place that refuses the event `poison` and takes every other; the healthy one, where that is so."""
        if self.the_poison is None:
            pytest.skip("this sink type has no event that is refused for its content")
        return self.healthy()

    @property
    def the_poison(self) -> bytes | None:
        """The event that is refused for its content, if there is one."""
        return self.poison if self.poison is not None or self.takes_nul else NUL[0]

    def has(self, hook: str) -> bool:
        """Whether the contract test defines that hook."""
        return getattr(type(self), hook) is not getattr(Places, hook)

    # How it is judged

    def _arrives(self, events: Sequence[bytes]) -> None:
        with self.healthy() as target, target.sink() as sink:
            sink.deliver(make_batch(events))
            self._same(target.arrived(), events)

    def _shown(self, target: Target, batch: Batch) -> Guarantee:
        """The guarantee that the place shows after `batch` was sent more than once."""
        events, arrived = list(batch.lines()), target.arrived()
        times = max(1, len(arrived) // len(events))
        self._same(arrived, *[events] * times)
        if times == 1:
            return Guarantee.EFFECTIVELY_ONCE
        keys = set(target.keys()) if target.keys else set()
        return Guarantee.AT_LEAST_ONCE_KEYED if keys == {batch.id} else Guarantee.AT_LEAST_ONCE

    def _kept_guarantee(self, target: Target, batch: Batch) -> None:
        said, shown = self.sink_type.guarantee, self._shown(target, batch)
        if said is Guarantee.AT_LEAST_ONCE_KEYED:
            assert target.keys is not None, "a keyed sink's Target gives keys"
            assert set(target.keys()) == {batch.id}, "the receiver did not see the batch's id as the key"
        assert STRENGTH.index(shown) <= STRENGTH.index(said), f"a repeat is {shown!r}, the type declares {said!r}"

    def _same(self, arrived: Sequence[bytes], *batches: Sequence[bytes]) -> None:
        if not self.ordered:  # take the batches in the order in which they lie there
            place = {event: number for number, event in reversed(list(enumerate(arrived)))}
            batches = tuple(sorted(batches, key=lambda events: place.get(events[0], 0)))
        sent = [event for events in batches for event in events]
        assert len(arrived) == len(sent), f"{len(arrived)} events arrived, {len(sent)} were sent"
        for number, (here, there) in enumerate(zip(arrived, sent, strict=True)):
            equal = here == there if self.exact else _parsed(here) == _parsed(there)
            assert equal, f"event {number} changed: {here[:300]!r} was {there[:300]!r}"

    def _fail(self, target: Target) -> str:
        """The traceback of a delivery in vain, and what was logged; the sink is closed as the daemon would."""
        sink = target.sink()
        with logged() as lines:
            try:
                sink.open()
                with contextlib.closing(sink):
                    target.arm()
                    sink.deliver(make_batch(sample_events(2)))
            except SinkError as error:
                return "".join([*traceback.format_exception(error), repr(sink), *lines])
        raise AssertionError("the delivery went well where it should have failed")


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What is logged in the meantime and a daemon would show: by eventferry's way, and by libraries from WARNING on."""
    from structlog.testing import capture_logs

    lines: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    listening, root = Listening(logging.WARNING), logging.getLogger()
    root.addHandler(listening)
    try:
        with capture_logs() as entries:
            yield lines
        lines += [repr(entry) for entry in entries]
    finally:
        root.removeHandler(listening)


def numbers(events: Sequence[bytes]) -> list[int]:
    """The numbers of sample events, sorted."""
    return sorted(json.loads(event)["n"] for event in events)


def _lacks(hook: str) -> NoReturn:
    pytest.skip(f"this sink type has no {hook}()")


def _parsed(event: bytes) -> Any:
    return json.loads(event, parse_float=Decimal)
