"""What a key says: its date, its partition, whether it is wanted, and where a listing may jump ahead."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from eventferry.errors import ConfigError
from eventferry.store.base import StoreObject

DEFAULT_PATTERN = r"^(?P<date>\d{4}/\d{2}/\d{2}(?:/\d{2})?)/"
_GROUPS = frozenset({"date", "tenant", "project", "collection"})
_DATE_DIGITS = (8, 10)  # YYYYMMDD, YYYYMMDDHH
_DIGIT = re.compile("[0-9]")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What the pattern read out of one key."""

    partition: str = ""  # the key's text before its date: keys of one partition are ordered by date
    date: dt.datetime | None = None  # start of the day or hour, UTC
    tenant: str | None = None
    project: str | None = None
    collection: str | None = None
    date_text: str = field(default="", repr=False)  # as it stands in the key


class Layout:
    """How keys are built, as a regular expression with the groups date, tenant, project and collection.

    The digits of `date` are YYYYMMDD or YYYYMMDDHH, with anything in between. None: keys say nothing.
    """

    def __init__(self, pattern: str | None = DEFAULT_PATTERN) -> None:
        self._pattern = None if pattern is None else _compiled(pattern)
        self.dated = self._pattern is not None and "date" in self._pattern.groupindex

    def match(self, key: str) -> KeyInfo | None:
        """What `key` says; None for a foreign key, one that the pattern or the calendar does not know."""
        if self._pattern is None:
            return KeyInfo()
        found = self._pattern.search(key)
        if found is None:
            return None
        groups = found.groupdict()
        text = groups.get("date")
        date = None if text is None else _read_date(text)
        if text is not None and date is None:
            return None
        return KeyInfo(
            partition="" if text is None else key[: found.start("date")],
            date=date,
            tenant=groups.get("tenant"),
            project=groups.get("project"),
            collection=groups.get("collection"),
            date_text=text or "",
        )

    def floor(self, key: "str | KeyInfo", moment: dt.datetime) -> str | None:
        """The text after which the keys of the partition of `key` are dated `moment` or later, none before it.

        None where `key` has no date. In the form of `key`: a key dated by the day gives the moment's day.
        """
        info = self.match(key) if isinstance(key, str) else key
        if info is None or info.date is None:
            return None
        count = len(_DIGIT.findall(info.date_text))
        moment = moment.astimezone(dt.UTC)
        digits = iter(f"{moment.year:04}{moment.month:02}{moment.day:02}{moment.hour:02}"[:count])
        return info.partition + _DIGIT.sub(lambda _: next(digits), info.date_text)


def skip_scan(
    listing: Callable[[str | None], Iterator[StoreObject]],
    layout: Layout,
    floors: Callable[[str], str | None],
) -> Iterator[tuple[StoreObject, KeyInfo | None]]:
    """List everything but the keys of each partition at or below its floor, without paging through those.

    Where a key at or below its partition's floor turns up, the listing is begun anew after the floor: once per
    partition at most. Foreign keys are yielded with None and move nothing. Keys of another kind that sort between two
    dates of a partition (a folder `2024b/` beside the years) may be jumped over; a scan without floors finds them.
    """
    start_after: str | None = None
    while True:
        floor: str | None = None
        objects = listing(start_after)
        for item in objects:
            info = layout.match(item.key)
            if info is not None and info.date is not None:
                floor = floors(info.partition)
                if floor is not None and item.key <= floor:
                    break
            yield item, info
        else:
            return
        _close(objects)
        start_after = floor


class Selection:
    """Which keys are wanted, by globs: `*` and `?` stay within one part of a key, `**` spans parts, `[a-c]` as usual.

    A glob without `/` is held against the last part of the key: `*.gz` takes them at any depth.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)

    def takes(self, key: str) -> bool:
        """Whether `key` matches an include (or there is none) and no exclude."""
        if self._include is not None and not self._include.fullmatch(key):
            return False
        return self._exclude is None or not self._exclude.fullmatch(key)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.ASCII)
    except re.error as error:
        raise ConfigError(f"key_pattern {pattern!r} is no regular expression: {error}") from error
    unknown = sorted(set(compiled.groupindex) - _GROUPS)
    if unknown:
        raise ConfigError(
            f"key_pattern {pattern!r} names the groups {', '.join(unknown)}; known are {', '.join(sorted(_GROUPS))}"
        )
    return compiled


@lru_cache(maxsize=4096)  # many keys share a date
def _read_date(text: str) -> dt.datetime | None:
    digits = "".join(_DIGIT.findall(text))
    if len(digits) not in _DATE_DIGITS:
        return None
    try:
        return dt.datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:8]), int(digits[8:] or 0), tzinfo=dt.UTC)
    except ValueError:
        return None


def _any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    choices = []
    for glob in globs:
        choices.append(_translate(glob))
        try:
            re.compile(choices[-1])
        except re.error as error:
            raise ConfigError(f"{glob!r} is no glob: {error}; escape a literal bracket as [[]") from error
    return re.compile("|".join(choices), re.DOTALL) if choices else None


def _translate(glob: str) -> str:
    parts = glob.lstrip("/").split("/") if "/" in glob else ["**", glob]
    *folders, last = parts
    before = "".join("(?:[^/]*/)*" if part == "**" else _translate_part(part) + "/" for part in folders)
    return before + (".+" if last in ("**", "") else _translate_part(last))


def _translate_part(part: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(part):
        char = part[at]
        closing = part.find("]", at + 2 if part[at + 1 : at + 2] != "!" else at + 3)
        if char == "[" and closing > 0:
            inside = part[at + 1 : closing].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            out.append("[^/" + inside[1:] + "]" if inside.startswith("!") else "[" + inside.replace("^", "\\^") + "]")
            at = closing + 1
            continue
        out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        at += 1
    return "".join(out)


def _close(objects: Iterator[StoreObject]) -> None:
    """Let a generator go of what it holds open, now and not at some collection."""
    close = getattr(objects, "close", None)
    if close is not None:
        close()
