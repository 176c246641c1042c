"""Decides who is told what: levels, events, the rate cap. Pure: values in, values out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from eventferry.ledger.alerts import ENDS, LEVELS, StoredMessage

SUPPRESSED = "alert.suppressed"
# These say once what was asked for, or what the cap itself kept back.
UNCAPPED = ("digest", "test")


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """What a channel wants: messages of at least `level`, of `events` (shell patterns; none means all)."""

    level: str = "error"
    events: tuple[str, ...] = ()
    max_per_hour: int = 20
    digest: bool | None = None  # None: where warnings are not sent one by one

    @property
    def wants_digest(self) -> bool:
        return LEVELS.index(self.level) > LEVELS.index("warning") if self.digest is None else self.digest


def choose_channels(message: StoredMessage, told: frozenset[str], rules: Mapping[str, ChannelRule]) -> Iterable[str]:
    """The channels that get `message`. A reminder or an end also goes where its problem went."""
    return [name for name, rule in rules.items() if _wants(message, name in told, rule)]


def _wants(message: StoredMessage, was_told: bool, rule: ChannelRule) -> bool:
    if message.kind == "digest":
        return rule.wants_digest
    if message.kind in ENDS:
        return was_told
    matches = not rule.events or any(fnmatchcase(message.event, pattern) for pattern in rule.events)
    return was_told or (matches and LEVELS.index(message.level) >= LEVELS.index(rule.level))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What of the due messages may go, and what the rate cap keeps back."""

    send: tuple[StoredMessage, ...]
    suppress: tuple[StoredMessage, ...]


def apply_cap(due: Sequence[StoredMessage], sent_last_hour: int, max_per_hour: int) -> Allowance:
    """What fits into the hour, worst first, then oldest; in the order of `due`. `max_per_hour` 0 means no cap."""
    capped = [one for one in due if max_per_hour and one.kind not in UNCAPPED and one.event != SUPPRESSED]
    ranked = sorted(capped, key=lambda one: (-LEVELS.index(one.level), one.id))
    kept_back = {one.id for one in ranked[max(0, max_per_hour - sent_last_hour) :]}
    return Allowance(
        send=tuple(one for one in due if one.id not in kept_back),
        suppress=tuple(one for one in due if one.id in kept_back),
    )
