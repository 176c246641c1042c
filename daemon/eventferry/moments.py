"""What counts as an event's time."""

import datetime as dt

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

_MILLISECOND = dt.timedelta(milliseconds=1)


def to_epoch_ms(value: object) -> int | None:
    """Epoch milliseconds of a time as events carry it, None where it is unusable.

    Usable are numbers (epoch milliseconds) and ISO-8601 strings with Z, an offset or none (= UTC), within the years
    1970 to 9999.
    """
    kind = type(value)
    if kind is int:
        ms: int = value  # type: ignore[assignment]
    elif kind is float:
        if not 0 <= value <= LAST_MS:  # type: ignore[operator]  # also refuses NaN and infinity
            return None
        ms = int(value)  # type: ignore[call-overload]
    elif kind is str:
        return _parse(value)  # type: ignore[arg-type]
    else:
        return None
    return ms if 0 <= ms <= LAST_MS else None


def _parse(text: str) -> int | None:
    # Python would read a string of digits such as "2012121812345" as a date; it is more likely a number in quotes.
    if (text[4:5] != "-" and text[8:9] != "T") or "\0" in text:  # it also stops reading at a NUL
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    ms = (moment - EPOCH) // _MILLISECOND
    return ms if 0 <= ms <= LAST_MS else None
