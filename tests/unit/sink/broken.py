"""Sinks for the tests of the kit: one that keeps every promise, and for each promise one that breaks it."""

import logging
import threading
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import AfterValidator, SecretStr

from eventferry.sink import (
    BatchRejected,
    EventsRejected,
    Guarantee,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.columns import ColumnOptions, check_table
from eventferry.sink.rows import Extractor

POISON = b'{"event_type":"poison"}'
TOKEN = "tok-4711-secret"


class Place(dict):
    """What arrived, by batch id; under tuples what a sink writes down beside it. `mode` says how the place behaves."""

    def __init__(self, mode=""):
        self.mode = mode
        self.lock = threading.Lock()

    def arrived(self):
        return [line for key, lines in self.items() if type(key) is not tuple for line in lines]


class MemoryOptions(ColumnOptions):
    table: Annotated[str, AfterValidator(check_table)] = "events"
    token: SecretStr = SecretStr(TOKEN)


class Memory(Sink[MemoryOptions]):
    """A good sink; each mutant below breaks one promise."""

    Options = MemoryOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "a dictionary"
    max_concurrency = 2
    place: Place

    def open(self):
        if self.place.mode == "unreachable":
            raise SinkUnavailable("nobody is there", untouched=True)
        if self.place.mode == "lowered":
            self.guarantee = Guarantee.AT_LEAST_ONCE

    def deliver(self, batch):
        self.meet(batch)
        with self.place.lock:
            if self.place.mode == "poisoned" and POISON in batch.body:
                self.refuse(batch)
            is_known = batch.id in self.place
            self.take(batch)
            self.count_misfits(batch, is_known)
        self.reply(batch)

    def meet(self, batch):
        match self.place.mode:
            case "misconfigured":
                raise SinkMisconfigured("the table is missing; create it")
            case "refusing":
                raise BatchRejected("not these")
            case "throttling":
                raise SinkUnavailable("slowly", retry_after=7.0, untouched=True)
            case "hanging":
                raise SinkUnavailable("no answer in time")
            case "crashing":
                self.place.mode = ""
                raise SinkUnavailable("it broke off")

    def refuse(self, batch):
        lines = list(batch.lines())
        self.take(replace(batch, body=b"".join(line + b"\n" for line in lines if line != POISON)))
        raise EventsRejected({number: "poison" for number, line in enumerate(lines) if line == POISON})

    def take(self, batch):
        self.place.setdefault(batch.id, list(batch.lines()))

    def reply(self, batch):
        if self.place.mode == "losing":
            self.place.mode = ""
            raise SinkUnavailable("the answer was lost")

    def count_misfits(self, batch, is_known):
        if not is_known:
            for name, number in Extractor(self.options.all_columns()).extract(batch.body).misfits.items():
                self.count("values.misfitted", name, number)

    def was_delivered(self, batch):
        return batch.id in self.place

    def check(self):
        yield "the dictionary is open"
        self.meet(None)
        yield "it takes events"


class Lossy(Memory):
    def take(self, batch):
        self.place.setdefault(batch.id, list(batch.lines())[:9_000])


class Splitting(Memory):
    def take(self, batch):
        self.place.setdefault(batch.id, [line.encode() for line in batch.body.decode().splitlines()])


class Repeating(Memory):
    def take(self, batch):
        self.place[batch.id] = self.place.get(batch.id, []) + list(batch.lines())


class ByContent(Memory):
    def take(self, batch):
        self.place.setdefault(batch.body, list(batch.lines()))


class Backwards(Memory):
    def take(self, batch):
        self.place.setdefault(batch.id, list(batch.lines())[::-1])


class Rewriting(Memory):
    def take(self, batch):
        self.place.setdefault(batch.id, [line.replace(b" ", b"") for line in batch.lines()])


class Forgetful(Memory):
    def was_delivered(self, batch):
        return False


class Recording(Memory):
    """Keeps the parts beside the events, as a table would."""

    def take(self, batch):
        recorded = self.place.setdefault((batch.epoch,), [])
        if batch.id not in self.place:
            self.place[batch.id] = batch.lacking(recorded).splitlines()
            recorded += batch.parts


class Merging(Recording):
    """Takes a replay on purpose for a repeat."""

    def take(self, batch):
        super().take(replace(batch, epoch=""))


class Replacing(Recording):
    """Forgets the batches that another one names, and writes their parts down with their ids."""

    can_replace = True

    def take(self, batch):
        if batch.id in self.place:
            return
        for id_ in batch.replaces:
            self.place.pop(id_, None)
            self.place.pop((id_,), None)
        known = [part for key, (epoch, parts) in self._books() if epoch == batch.epoch for part in parts]
        self.place[batch.id] = batch.lacking(known).splitlines()
        self.place[(batch.id,)] = (batch.epoch, batch.parts)

    def _books(self):
        return [(key, value) for key, value in self.place.items() if type(key) is tuple]


class Adding(Replacing):
    """Takes what replaces for what comes on top."""

    def take(self, batch):
        super().take(replace(batch, replaces=(), parts=()))


class Tombstones(Replacing):
    """Takes an empty body for nothing to do."""

    def take(self, batch):
        if batch.body:
            super().take(batch)


class Greedy(Replacing):
    """Forgets all that it has of the same file."""

    def take(self, batch):
        contents = {part.content for part in batch.parts}
        mine = [key[0] for key, (_, parts) in self._books() if contents & {part.content for part in parts}]
        super().take(replace(batch, replaces=tuple(set(mine) - {batch.id})) if batch.replaces else batch)


class Silent(Memory):
    """Takes refusals and failures for success."""

    def open(self):
        pass

    def meet(self, batch):
        pass


class Wrong(Memory):
    """Calls a refusal a case for later."""

    def deliver(self, batch):
        raise SinkUnavailable("no")


class Denying(Memory):
    """Says that nothing was taken wherever it got no answer."""

    def meet(self, batch):
        try:
            super().meet(batch)
        except SinkUnavailable as error:
            raise SinkUnavailable(str(error), untouched=True) from None

    def reply(self, batch):
        if self.place.mode == "losing":
            raise SinkUnavailable("the answer was lost", untouched=True)


class Leaving(Memory):
    """Leaves a part where it breaks off."""

    def meet(self, batch):
        if self.place.mode == "crashing":
            self.place[batch.id] = [batch.line(0)]
        super().meet(batch)


class Forgetting(Memory):
    """Knows its batches as long as it lives."""

    def open(self):
        super().open()
        self.known = set()

    def take(self, batch):
        if batch.id not in self.known:
            self.place[batch.id] = self.place.get(batch.id, []) + list(batch.lines())
        self.known.add(batch.id)


class Unguarded(Memory):
    """Looks, and then acts, as if it were alone."""

    def deliver(self, batch):
        if batch.id not in self.place:
            threading.Event().wait(0.05)
            self.place[batch.id] = self.place.get(batch.id, []) + list(batch.lines())


class Racing(Memory):
    """Writes back all that it has read."""

    def deliver(self, batch):
        before = dict(self.place)
        threading.Event().wait(0.01)
        self.place.clear()
        self.place.update(before)
        self.place[batch.id] = list(batch.lines())


class Mixing(Memory):
    """Completes what it has."""

    def take(self, batch):
        self.place[batch.id] = (
            self.place.get(batch.id, [])[:3] + list(batch.lines())[len(self.place.get(batch.id, [])[:3]) :]
        )


class Modest(Memory):
    """Promises less than it keeps."""

    guarantee = Guarantee.AT_LEAST_ONCE


class Boasting(Memory):
    """Promises the same everywhere, and keeps it nowhere."""

    def open(self):
        pass


class Later(Memory):
    """Waits where a person is needed."""

    def meet(self, batch):
        if self.place.mode == "misconfigured":
            raise SinkUnavailable("no table yet")
        super().meet(batch)


class Impatient(Memory):
    """Forgets how long it is to wait."""

    def meet(self, batch):
        if self.place.mode == "throttling":
            raise SinkUnavailable("slowly", untouched=True)
        super().meet(batch)


class Counting(Memory):
    """Counts the refused from one."""

    def refuse(self, batch):
        try:
            super().refuse(batch)
        except EventsRejected as error:
            raise EventsRejected({number + 1: why for number, why in error.reasons.items()}) from None


class HalfTaking(Memory):
    """Refuses the batch after it took some of it."""

    def refuse(self, batch):
        self.place[batch.id] = [batch.line(0)]
        raise BatchRejected("poison somewhere")


class Bisected(Memory):
    """Refuses the whole batch; a good sink, too."""

    def refuse(self, batch):
        raise BatchRejected("poison somewhere")


class Opening(Memory):
    """Leaves a thread behind where it cannot open."""

    def open(self):
        if self.place.mode == "unreachable":
            threading.Thread(target=threading.Event().wait, args=(2,), daemon=True).start()
        super().open()


class Hasty(Memory):
    """Connects as soon as it is made."""

    def __init__(self, options, name=""):
        super().__init__(options, name)
        raise SinkUnavailable("nobody is there")


class Once(Memory):
    """Cannot be closed again."""

    def close(self):
        del self.place


class Lenient(Memory):
    """Takes every option."""

    class Options(MemoryOptions):
        model_config: ClassVar = {"extra": "ignore"}


class Unproven(Memory):
    """Was proved against something else."""

    proved_against = "PostgreSQL 18"


class Injectable(Memory):
    """Takes any text for a table."""

    class Options(MemoryOptions):
        table: str = "events"


class Telling(Memory):
    """Puts its secret into the error."""

    def meet(self, batch):
        if self.place.mode == "misconfigured":
            raise SinkMisconfigured(f"the token {self.options.token.get_secret_value()} is refused")
        super().meet(batch)


class Logging(Memory):
    """Logs its secret."""

    def meet(self, batch):
        logging.getLogger("library").warning("trying %s", self.options.token.get_secret_value())
        super().meet(batch)


class Mute(Memory):
    """Checks without a word."""

    def check(self):
        return iter(())


class Trying(Memory):
    """Checks with an event of its own, which stays."""

    def check(self):
        self.place["check"] = [b"{}"]
        yield "an event can be written"


class Hopeful(Memory):
    """Finds nothing wrong, ever."""

    def check(self):
        yield "all is well"


class Misnaming(Memory):
    """Counts under a name of its own making."""

    def take(self, batch):
        self.count("Misfits!")
        super().take(batch)


class Uncounting(Memory):
    """Leaves values out in silence."""

    def count_misfits(self, batch, is_known):
        pass


class Recounting(Memory):
    """Counts a repeat again."""

    def count_misfits(self, batch, is_known):
        super().count_misfits(batch, False)
