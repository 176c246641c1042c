"""The kill lane: one daemon after the other is killed at a chosen instant, the next one takes over at once."""

import contextlib
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from tests.faults.journal import Journal
from tests.faults.stage import COMMAND, Daemon, Stage, wait_until

# How many of a hundred kills are of which kind.
KINDS = {
    "held": 40,  # the receiver has the whole request and keeps its answer back
    "frozen": 30,  # the ledger's write lock is held from outside: the daemon stands between two transactions
    "delivering": 15,  # any instant while batches go out
    "early": 15,  # any instant of starting, listing, indexing
}
FILES, EVENTS = 4, 400  # that land before each kill
STANDBY = {"when_busy": "wait"}


@dataclass
class Tally:
    """What the kills hit."""

    kills: int = 0
    idle: int = 0  # nothing was missing anywhere: does not count
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    between: int = 0  # a sink held a batch whose outcome was not recorded
    between_by: dict[str, int] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)  # events that lacked somewhere, at each kill


def plan_kinds(random: random.Random, kills: int) -> list[str]:
    """Which kind each kill is of."""
    kinds = [kind for kind, count in KINDS.items() for _ in range(max(1, round(count * kills / 100)))]
    random.shuffle(kinds)
    return kinds[:kills]


def sinks_of(stage: Stage, url: str) -> dict[str, dict[str, Any]]:
    """The three sinks, in small batches, so that there are plenty."""
    common = {"batch": {"max_events": 150, "max_wait": "0s"}, "retry": {"first": "20ms", "max": "200ms"}}
    large = {"max_events": 600, "max_wait": "0s"}  # every transaction opens the file anew
    return {
        "file": {"type": "file", "path": str(stage.out), **common},
        "duckdb": {"type": "duckdb", "path": str(stage.folder / "warehouse.duckdb"), **common, "batch": large},
        "http": {"type": "http", "url": url, "timeout": "30s", **common},
    }


class Lane:
    """Kills daemons; a stand-by is always there, so that a start costs little."""

    def __init__(self, stage: Stage, journal: Journal, command: list[str] = COMMAND) -> None:
        self.stage, self.journal, self.tally = stage, journal, Tally()
        self._command = command
        self._random = stage.random
        self._pause = threading.Event()
        self._filed: dict[Path, int] = {}
        self.daemon = self._start()
        self._wait(self.daemon.owns_ledger, "the first daemon holds the ledger")

    def _start(self) -> Daemon:
        return self.stage.start(command=self._command)

    def run(self, kinds: list[str]) -> None:
        """One kill for each kind; one that found nothing left to do is repeated."""
        waiting = list(kinds)
        while waiting:
            if not self.kill_once(waiting[0]):
                assert self.tally.idle <= 20 + len(kinds) // 2, "the kills come too late to hit anything"
                continue
            waiting.pop(0)

    def kill_once(self, kind: str) -> bool:
        """Let events land, kill the daemon at an instant of this kind; whether it hit an unfinished run."""
        self.stage.add_files(FILES, EVENTS)
        self._wait(self.daemon.owns_ledger, "the stand-by takes over")
        standby = self._start()
        with contextlib.ExitStack() as until_dead:
            getattr(self, f"_reach_{kind}")(until_dead)
            standby.signal(signal.SIGSTOP)  # nobody may mend anything before it was looked at
            self.daemon.kill()
        missing = self._missing()
        if missing:
            self._note(kind, missing)
        else:
            self.tally.idle += 1
        self.journal.release()
        standby.signal(signal.SIGCONT)
        self.daemon = standby
        return bool(missing)

    def drain(self, seconds: float = 120.0) -> None:
        """No more kills: everything must arrive by itself, then the daemon stops cleanly."""
        wait_until(lambda: not self._missing(), "the sinks have everything", seconds, every=0.1)
        wait_until(self.stage.has_nothing_left, "every batch has an end", seconds, every=0.1)
        assert self.daemon.stop() == 0, self.daemon.tail()

    def settle(self) -> None:
        """No more kills, of a daemon that may have lost events: until there is nothing left that it would send."""
        self.daemon.wait_started()
        wait_until(lambda: self.daemon.events()["run.finished"] >= 2, "two runs found what there is", 60, every=0.05)
        wait_until(self.stage.has_nothing_left, "nothing is left to send", 60, every=0.05)
        assert self.daemon.stop() == 0, self.daemon.tail()

    # -- instants -----------------------------------------------------------------------------------------------------

    def _reach_held(self, _: contextlib.ExitStack) -> None:
        self.journal.hold(self._random.choice([1, 2, 3, 5, 8]))
        self._wait(self.journal.held.is_set, "the receiver got a request")

    def _reach_frozen(self, until_dead: contextlib.ExitStack) -> None:
        self._await_batches()
        self._pause.wait(self._random.uniform(0, 0.05))
        until_dead.enter_context(self.stage.locked())
        self._pause.wait(self._random.choice([0, 0.01, 0.03, 0.08]))

    def _reach_delivering(self, _: contextlib.ExitStack) -> None:
        self._await_batches()
        self._pause.wait(self._random.uniform(0, 0.08))

    def _reach_early(self, _: contextlib.ExitStack) -> None:
        self._pause.wait(self._random.uniform(0, 1.0))

    def _await_batches(self) -> None:
        """Until this daemon itself has written a batch down."""
        before = self._batches()
        self._wait(lambda: self._batches() > before, "the daemon writes batches down")

    def _batches(self) -> int:
        with contextlib.suppress(Exception):  # before the first start there is no such table
            return self.stage.ask("SELECT coalesce(max(seq), 0) FROM batches")[0][0]
        return 0

    def _wait(self, true: Any, what: str) -> None:
        def reached() -> Any:
            assert self.daemon.is_alive, f"the daemon ended by itself:\n{self.daemon.tail()}"
            return true()

        try:
            wait_until(reached, what, 30.0, every=0.005)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.daemon.tail()}") from None

    # -- what the kill hit --------------------------------------------------------------------------------------------

    def _missing(self) -> int:
        """Events that landed in the store and lack at the file sink or the receiver."""
        for path in self.stage.delivered_files():
            if path not in self._filed:
                self._filed[path] = path.read_bytes().count(b"\n")
        return 2 * self.stage.events - sum(self._filed.values()) - self.journal.events

    def _note(self, kind: str, missing: int) -> None:
        self.tally.kills += 1
        self.tally.kinds[kind] += 1
        self.tally.missing.append(missing)
        reached = {sink for sink, batch in self.stage.under_way() if self._holds(sink, batch)}
        self.tally.between += bool(reached)
        for sink in reached:
            self.tally.between_by[sink] = self.tally.between_by.get(sink, 0) + 1

    def _holds(self, sink: str, batch: str) -> bool:
        """Whether the sink has taken this batch."""
        if sink == "http":
            return batch in self.journal.keys
        if sink == "file":
            return any(path.stem == batch for path in self._filed)
        path, query = self.stage.folder / "warehouse.duckdb", "SELECT 1 FROM eventferry_batches WHERE batch_id = ?"
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                return connection.execute(query, [batch]).fetchone() is not None
        except duckdb.Error:  # not even its first transaction may be there
            return False


def report(tally: Tally, journal: Journal, stage: Stage, seed: int, began: float) -> str:
    """The figures, for people."""
    return (
        f"\nfaults: seed {seed}, {tally.kills} kills {tally.kinds} over {stage.events:,} events, {tally.idle} idle; "
        f"between send and record {tally.between} {tally.between_by}; repeated batches at the receiver "
        f"{journal.repeats}; {time.monotonic() - began:.0f} s"
    )
