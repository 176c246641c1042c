"""Checks five-field cron expressions and spells them so that the scheduler means the same as cron."""

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_ITEM = re.compile(r"(?:(\*)|([a-z]+|\d+)(?:-([a-z]+|\d+))?)(?:/(\d+))?", re.IGNORECASE | re.ASCII)
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def check_cron(text: str) -> str:
    """The expression in the scheduler's spelling, weekdays by name. Raises ValueError naming the field.

    APScheduler counts weekdays from Monday = 0 where cron counts from Sunday = 0, and wants both the day of the month
    and the weekday to match where cron takes either; so numbers become names, and giving both is refused.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            f'{text!r} has {len(fields)} fields, not five; write minute hour day month weekday, "0 6 * * *"'
        )
    chosen = [_expand(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    day, month, weekday = chosen[2:]
    if day is not None and weekday is not None:
        raise ValueError(f"{text!r} names both a day of the month and a weekday; name one of them")
    if day is not None and min(day) > max(_LONGEST_MONTH[each - 1] for each in month or range(1, 13)):
        raise ValueError(f"{text!r} names a day that no such month has; it would never run")
    if weekday is not None:
        fields[4] = ",".join(_DAYS[number] for number in sorted({each % 7 for each in weekday}))
    # The scheduler refuses steps longer than a range; written out, they are the same to both.
    spelled = (_written_out(field, numbers) for field, numbers in zip(fields, chosen, strict=True))
    return " ".join(spelled).lower()


def _written_out(field: str, numbers: set[int] | None) -> str:
    return ",".join(map(str, sorted(numbers))) if numbers and "/" in field else field


def _expand(field: str, name: str, low: int, high: int) -> set[int] | None:
    """The numbers that one field names; None where it names all."""
    numbers: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None or (match[4] and match[2] and not match[3]):
            raise ValueError(f"{item!r} is not a cron {name}; write a number, a range 1-5, a list 1,3 or */10")
        first = low if match[1] else _number(match[2], name, low, high)
        last = (high - (high == 7) if match[1] else first) if not match[3] else _number(match[3], name, low, high)
        step = int(match[4] or 1)
        if first > last or step < 1:
            raise ValueError(f"{item!r} is an empty range of the cron {name}")
        numbers.update(range(first, last + 1, step))
    return None if field == "*" else numbers


def _number(text: str, name: str, low: int, high: int) -> int:
    names = {
        "month": dict(zip(_MONTHS, range(1, 13), strict=True)),
        "day of week": dict(zip(_DAYS, range(7), strict=True)),
    }
    number = int(text) if text.isdecimal() else names.get(name, {}).get(text.lower(), -1)
    if not low <= number <= high:
        raise ValueError(f"{text!r} is not a cron {name}; it goes from {low} to {high}")
    return number
