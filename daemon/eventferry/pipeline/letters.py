"""Dead letters that a person sends once more."""

from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts, dead_letters, sinks
from eventferry.ledger.dead_letters import DeadLetterRow
from eventferry.ledger.identity import letter_id
from eventferry.logs import get_logger
from eventferry.pipeline.outcome import Ending, backoff_ms, judge
from eventferry.pipeline.record import Rules, end_hold, hold
from eventferry.sink import Batch

logger = get_logger()


@dataclass(frozen=True)
class LetterCall:
    """A dead letter on its way."""

    letter: DeadLetterRow
    identity: str

    @cached_property
    def batch(self) -> Batch:
        """The letter as a batch of its own, with an id of its own."""
        letter = self.letter
        assert letter.body is not None
        own_id = letter_id(self.identity, letter.id, letter.place)
        # Its calls are not written down before they are made: any of them may be a repeat, and a sink should look.
        again = letter.attempts + 2
        return Batch(own_id, letter.body, letter.events, attempt=again, locate=lambda _: letter.place)


def record_letter(tx: sa.Connection, rules: Rules, call: LetterCall, error: BaseException | None) -> bool:
    """Write down how the retry of a dead letter ended; whether it was taken."""
    verdict = judge(error, call.letter.events)
    match verdict.ending:
        case Ending.DELIVERED:
            dead_letters.set_state(tx, [call.letter.id], "delivered", drop_body=True)
            sinks.note_delivered(tx, rules.sink_id)
            close_if_none_left(tx, rules.sink_id, rules.name)
            end_hold(tx, rules)
        case Ending.HOLD:  # about the sink, not the letter, which is sent again at the next probe
            hold(tx, rules, verdict.reason)
            dead_letters.postpone(tx, call.letter.id, 0)
        case Ending.RETRY | Ending.BUG:
            wait = backoff_ms(call.letter.attempts + 1, rules.retry_first, rules.retry_max, verdict.retry_after)
            dead_letters.postpone(tx, call.letter.id, clock.now_ms() + wait)
        case _:
            dead_letters.refuse_again(tx, call.letter.id, verdict.reason)
    return verdict.ending is Ending.DELIVERED


def close_if_none_left(tx: sa.Connection, sink_id: int, name: str, by_hand: str = "") -> None:
    """The alert about dead letters ends with the last one that waits: delivered, or what `by_hand` says."""
    if not dead_letters.are_left(tx, sink_id):
        alerts.close_condition(tx, f"events.dead:{name}", by_hand, proven=not by_hand)
