"""Carries out what people ask from the command line: in the daemon within 2 s, or at once where none runs."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from eventferry import clock
from eventferry.errors import ConfigError, UsageError
from eventferry.ledger import (
    Ledger,
    alerts,
    batches,
    books,
    dead_letters,
    objects,
    replay,
    replayable,
    requests,
    sinks,
    sources,
)
from eventferry.ledger.batches import BatchRow
from eventferry.logs import get_logger
from eventferry.pipeline.ending import RELEASED, alert_stopped
from eventferry.pipeline.letters import close_if_none_left
from eventferry.query import Transform
from eventferry.sink.registry import load_sink_type, types_that_replace
from eventferry.sink.safe import safe_text

logger = get_logger()


class Daemon(Protocol):
    """What a request may ask of the running daemon."""

    def reload(self) -> list[str]: ...
    def wake_sinks(self) -> None: ...
    def run_now(self, source: str | None) -> list[str]: ...


def carry_out(ledger: Ledger, daemon: Daemon | None) -> None:
    """Carry out every waiting request and record how each ended."""
    with ledger.read() as tx:
        waiting = requests.waiting(tx)
    for request in waiting:
        try:
            ok, result = True, do(ledger, request.kind, request.args, daemon, request.id)
        except ConfigError as error:
            ok, result = False, "\n".join(error.problems)
        except UsageError as error:
            ok, result = False, str(error)
        except sa.exc.OperationalError:
            raise  # the ledger is locked or its disk is full: the request is tried again
        except Exception as error:  # tried for ever, one bad request would keep all others waiting
            ok, result = False, safe_text(f"{type(error).__name__}: {error}", 400)
            logger.exception("request.failed", kind=request.kind, number=request.id)
        if not (ok and (request.kind in _ACTIONS or request.kind == "replay")):
            with ledger.write() as tx:
                requests.answer(tx, request.id, ok, result)
        logger.info("request.done", kind=request.kind, ok=ok)


def do(
    ledger: Ledger, kind: str, args: Mapping[str, Any], daemon: Daemon | None = None, request_id: int | None = None
) -> str:
    """Carry out one request; what happened, in a sentence. Raises UsageError, ConfigError."""
    if kind == "reload":
        if daemon is None:
            raise UsageError("no daemon is running; the next start loads the configuration anyway")
        return "\n".join(daemon.reload()) or "nothing changed"
    if kind == "run":
        if daemon is None:
            raise UsageError("no daemon is running; use `eventferry once`")
        return f"running {', '.join(daemon.run_now(args.get('source')))}"
    act = _ACTIONS.get(kind)
    if kind == "replay":
        result = _replay(ledger, args, request_id)
    elif act is None:
        raise UsageError(f"{kind!r} is not a request that this version knows")
    else:
        with ledger.write() as tx:
            result = act(tx, args)
            _answer(tx, request_id, result)
    if daemon is not None:
        _wake(daemon)
    return result


def _wake(daemon: Daemon) -> None:
    """After the commit: what is done stays done and is answered so; the sinks look again by themselves."""
    try:
        daemon.wake_sinks()
    except Exception:
        logger.exception("sinks.unwoken")


def _answer(tx: sa.Connection, request_id: int | None, result: str) -> None:
    """In the transaction of what was done: a crash must not carry it out twice."""
    if request_id is not None:
        requests.answer(tx, request_id, True, result)


def _sink(tx: sa.Connection, args: Mapping[str, Any]) -> sinks.SinkRow:
    found = sinks.get_sink(tx, args["sink"])
    if found is None:
        known = ", ".join(row.name for row in sinks.all_sinks(tx)) or "none"
        raise UsageError(f"there is no sink {args['sink']!r}; known are: {known}")
    return found


def _counted(count: int, noun: str) -> str:
    """`1 file is`, `3 files are`."""
    several = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"1 {noun} is" if count == 1 else f"{count:,} {several} are"


def _pause(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    sink = _sink(tx, args)
    sinks.set_state(tx, sink.id, "paused", "paused by hand")
    alerts.close_condition(
        tx, f"sink.held:{sink.name}", _why_held(sink), subject=f"Sink {sink.name} is paused by hand", proven=False
    )
    return f"sink {sink.name} is paused; its events wait until `eventferry resume {sink.name}`"


def _resume(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    sink = _sink(tx, args)
    was = sink.state
    sinks.set_state(tx, sink.id, "active")
    sinks.forget_failures(tx, sink.id)
    batches.wake(tx, sink.id)
    cause = f"sink.held:{sink.name}"
    if not _has_work(tx, sink):
        alerts.close_condition(tx, cause, "resumed by hand; nothing waits for it", proven=False)
    elif alerts.opened_ms(tx, cause) is not None:  # over only when it has taken something
        alerts.open_condition(
            tx,
            cause=cause,
            level="error",
            event="sink.held",
            subject=f"Sink {sink.name} was held and is resumed by hand; it has not taken anything since",
            detail=_why_held(sink),
            command=f"eventferry status --sink {sink.name}",
            times=0,
        )
    return f"sink {sink.name} was {was}; it is tried now"


def _has_work(tx: sa.Connection, sink: sinks.SinkRow) -> bool:
    """Whether anything waits that can prove that the sink works."""
    lacks = any(each.events for each in books.backlogs(tx) if each.sink == sink.name)
    return lacks or batches.count_open(tx, sink.id) > 0 or bool(dead_letters.due(tx, sink.id, 1))


def _why_held(sink: sinks.SinkRow) -> str:
    return f"it was held: {sink.reason}" if sink.state == "held" and sink.reason else ""


def _retry_files(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    rows = [objects.get_object(tx, each) for each in args["ids"]] if args.get("release") else []
    if unreadable := [row.key for row in rows if row.state == "quarantined" and row.digest is None]:
        raise UsageError(
            f"{unreadable[0]} cannot be read to its end, so there is nothing whole to release; "
            "`eventferry files retry` reads it once more, `eventferry files drop` gives it up"
        )
    count = objects.requeue(tx, args["ids"], RELEASED if args.get("release") else None)
    for name, source_id in sources.source_names(tx).items():
        alert_stopped(tx, name, source_id)
    return f"{_counted(count, 'file')} read again by the next run"


def _drop_files(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    count = objects.drop(tx, args["ids"])
    for name, source_id in sources.source_names(tx).items():
        alert_stopped(tx, name, source_id, by_hand=True)
    return f"{_counted(count, 'file')} dropped: their events are not delivered"


def _retry_letters(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    count = dead_letters.retry(tx, args["ids"])
    left = len(set(args["ids"])) - count
    rest = f"; {left} have no bytes to send or are over (what is gone: `eventferry replay --missing`)" if left else ""
    return f"{_counted(count, 'dead letter')} sent again{rest}"


def _drop_letters(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    count = dead_letters.set_state(tx, args["ids"], "dropped", drop_body=True)
    for row in sinks.all_sinks(tx):
        close_if_none_left(tx, row.id, row.name, "the last dead letters were dropped by hand")
    return f"{_counted(count, 'dead letter')} dropped"


def _replay(ledger: Ledger, args: Mapping[str, Any], request_id: int | None) -> str:
    """In many transactions, as it may be large; the last one answers."""
    mode = args["mode"]
    with ledger.read() as tx:
        sink = _sink(tx, args)
        ended = choose_batches(tx, sink, args)
    said = ""

    def finish(tx: sa.Connection, count: int) -> None:
        nonlocal said
        if mode == "missing":
            close_if_none_left(tx, sink.id, sink.name, "they are sent again by a replay")
            said = f"{_counted(count, 'batch')} sent to {sink.name} again under their old ids"
        elif mode == "again":
            said = f"{_counted(count, 'batch')} sent to {sink.name} once more under new ids: duplicates on purpose"
        else:
            said = f"{_counted(count, 'batch')} replaced at {sink.name}: deleted and written anew, one by one"
        _answer(tx, request_id, said)

    if mode == "missing":
        replay.repair(ledger, ended, finish)
    else:
        replay.again(ledger, sink, ended, _name(args), finish, replaces=mode == "replace")
    return said


def choose_batches(tx: sa.Connection, sink: sinks.SinkRow, args: Mapping[str, Any]) -> list[BatchRow]:
    """The batches that a replay is about. Raises UsageError where it cannot be."""
    mode, low, high = args["mode"], day_ms(args["from"]), day_ms(args["to"])
    if high < low:
        raise UsageError(f"--to {args['to']} is before --from {args['from']}")
    if mode not in ("missing", "again", "replace"):
        raise UsageError(f"--{mode} is no replay; say --missing, --again or --replace")
    high += 86_400_000  # both days are included
    if mode == "replace":
        _refuse_to_only_add(sink)
        waiting = replayable.open_between(tx, sink.id, low, high, replay.replacement_under_way(tx, sink, _name(args)))
        if waiting:
            still = "1 batch of these days is" if waiting == 1 else f"{waiting:,} batches of these days are"
            raise UsageError(
                f"{still} still on the way to {sink.name}; replace them when `eventferry status --sink {sink.name}`"
                " shows that nothing waits"
            )
    chosen = replayable.choose(tx, sink.id, mode, low, high)
    if mode == "missing":
        _refuse_to_reveal(tx, sink, chosen)
    return chosen


def _name(args: Mapping[str, Any]) -> str:
    """What an interrupted replay is found by."""
    return f"{args['from']}:{args['to']}"


def _refuse_to_only_add(sink: sinks.SinkRow) -> None:
    """Replacing takes a type that can delete and insert in one transaction. Raises UsageError, ConfigError."""
    if not load_sink_type(sink.type).can_replace:
        found = types_that_replace()
        able = " and ".join(filter(None, (", ".join(found[:-1]), *found[-1:])))
        raise UsageError(
            f"--replace: sinks of type {sink.type!r} cannot replace events in one transaction"
            + (f"; {able} can" if able else "")
        )


def _refuse_to_reveal(tx: sa.Connection, sink: sinks.SinkRow, ended: Sequence[BatchRow]) -> None:
    """The same ids mean the same bytes: not where these show what is hidden by now. Raises UsageError."""
    now = Transform.from_json(sinks.recall_transform(tx, sink.transform))
    # What was never cut, because its file was gone, is cut under the transform of today.
    for fingerprint in {row.transform for row in ended if row.body_digest or row.parent_seq is not None}:
        if now.hides_more_than(Transform.from_json(sinks.recall_transform(tx, fingerprint))):
            raise UsageError(
                "some of these batches were sent before fields were hidden, and would show them again; "
                "--again cuts them anew, under new ids"
            )


def day_ms(text: str) -> int:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a date; write 2024-01-31") from None
    return clock.to_ms(dt.datetime(day.year, day.month, day.day, tzinfo=clock.UTC))


def _rename(tx: sa.Connection, args: Mapping[str, Any]) -> str:
    if not sinks.rename(tx, args["what"], args["old"], args["new"]):
        raise UsageError(f"there is no {args['what']} {args['old']!r}, or {args['new']!r} is taken")
    return f"{args['what']} {args['old']} is now {args['new']}; use the new name in the configuration"


_ACTIONS: dict[str, Callable[[sa.Connection, Mapping[str, Any]], str]] = {
    "pause": _pause,
    "resume": _resume,
    "files.retry": _retry_files,
    "files.drop": _drop_files,
    "letters.retry": _retry_letters,
    "letters.drop": _drop_letters,
    "rename": _rename,
}
