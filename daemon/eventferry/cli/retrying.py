"""Sends dead letters again, and says what came of it."""

import threading
from collections.abc import Sequence

from eventferry import app, clock
from eventferry.cli import console
from eventferry.cli.asking import LOOK_SECONDS, PAGE, have_done
from eventferry.cli.place import Place
from eventferry.cli.wording import plural
from eventferry.ledger import Ledger, facts, sinks
from eventferry.ledger.facts import LetterState

# How long a person waits for the daemon's sinks to answer.
OUTCOME_SECONDS = 5.0


def retry_letters(place: Place, ledger: Ledger, ids: Sequence[int]) -> int:
    """Ask for another attempt of these dead letters; the exit code. Raises EventferryError."""
    is_running = app.is_owned(place.state_dir)
    for start in range(0, len(ids), PAGE):
        have_done(place, ledger, "letters.retry", ids=list(ids[start : start + PAGE]))
    if not is_running:
        is_, goes = ("is", "it goes") if len(ids) == 1 else ("are", "they go")
        console.mark(console.OK, f"{plural(len(ids), 'dead letter')} {is_} marked to be sent again.")
        console.say(f"No daemon is running, so nothing is sent yet: {goes} out with its next start, or at once by")
        console.advise("eventferry once   which says what became of it")
        return 0
    return tell_outcome(ledger, _await_outcome(ledger, ids))


def _await_outcome(ledger: Ledger, ids: Sequence[int]) -> list[LetterState]:
    end, pause = clock.monotonic() + OUTCOME_SECONDS, threading.Event()
    while True:
        with ledger.read() as tx:
            found = facts.letter_states(tx, ids)
        if clock.monotonic() > end or not any(each.state == "retrying" for each in found):
            return found
        pause.wait(LOOK_SECONDS)


def tell_outcome(ledger: Ledger, letters: Sequence[LetterState], *, advise: bool = True) -> int:
    """Say how many were delivered, refused again, or are still on their way; 1 where a person must look."""
    by_state: dict[str, list[LetterState]] = {}
    for each in letters:
        by_state.setdefault(each.state, []).append(each)
    if done := by_state.get("delivered"):
        console.mark(console.OK, f"{plural(len(done), 'dead letter')} sent again and delivered.")
    if refused := by_state.get("waiting"):
        console.mark(console.BAD, f"{plural(len(refused), 'dead letter')} sent again and refused again.")
        for each in refused[:5]:
            console.say(f"  {each.id}: {each.reason}", "dim")
    if left := by_state.get("retrying"):
        console.mark(console.MIND, f"{plural(len(left), 'dead letter')} still to be sent again.")
        for name in sorted({each.sink for each in left}):
            _tell_why(ledger, name)
    for name in sorted({each.sink for each in (refused or []) + (left or [])}) if advise else ():
        console.advise(f"eventferry dead-letters list --sink {name}   shows what is left")
    return 1 if refused else 0


def _tell_why(ledger: Ledger, name: str) -> None:
    with ledger.read() as tx:
        row = sinks.get_sink(tx, name)
    if row is None:
        return
    if not row.enabled:
        console.say(f"  sink {name} is switched off, or not in the config any more", "dim")
    elif row.state != "active":
        console.say(f"  sink {name} is {row.state}: {row.reason}", "dim")
    elif row.failures:
        console.say(f"  sink {name} does not answer as it should; it is tried again", "dim")
