"""How keys are written on the command line and shown there."""

import datetime as dt
import json
import re
from typing import Any

from eventferry import clock
from eventferry.access.keys import Key
from eventferry.cli.wording import iso
from eventferry.config.units import parse_duration
from eventferry.errors import UsageError
from eventferry.query.expression import And, Compare, During, Expression, Not, Or, join_path, paths_of
from eventferry.query.native import parse_filter
from eventferry.query.problems import QueryError

_FORM = '{"field": "event_type", "eq": "pageView"}'


def read_filter(text: str) -> Expression | None:
    """The filter that --filter holds, in the form of the native API. Raises UsageError."""
    try:
        return parse_filter(json.loads(text))
    except QueryError as error:
        raise UsageError(f"--filter: {error}") from None
    except (ValueError, RecursionError) as error:
        where = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"--filter is not JSON{where}; write '{_FORM}'") from None


def read_moment(text: str, option: str) -> int:
    """A span from now, a day's start in UTC, or an instant, in epoch ms and to come. Raises UsageError."""
    now = clock.now()
    try:
        if re.match(r"\d{4}-", text):
            moment = dt.datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=clock.UTC) if moment.tzinfo is None else moment.astimezone(clock.UTC)
        else:
            moment = now + parse_duration(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time; write a span such as 90d, a day such as 2027-01-31 or an instant such as "
            "2027-01-31T18:00:00+01:00"
        ) from None
    if moment <= now:
        raise UsageError(f"{option}: {text} is over; to end a key at once, use `eventferry keys revoke`")
    return clock.to_ms(moment)


def limits(key: Key) -> str:
    """`tenants acme, globex; filter on event_type`; "" where it may see everything."""
    parts = [
        f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for what, names in (
            ("tenant", key.realm.tenants),
            ("project", key.realm.projects),
            ("collection", key.realm.collections),
        )
        if names is not None
    ]
    if key.filter is not None:
        parts.append(f"filter on {', '.join(sorted({join_path(path) for path in paths_of(key.filter)}))}")
    return "; ".join(parts)


def describe(key: Key) -> str:
    """Who uses it, for what, of which events, how long."""
    seen = limits(key) or "all events"
    ends = f"until {iso(key.expires_ms)}" if key.expires_ms is not None else "until it is revoked"
    return f"{key.owner} may use it for {', '.join(sorted(key.scopes))}; {seen}; {ends}"


def _written(expression: Expression) -> dict[str, Any]:
    """The expression in the form of the native API."""
    match expression:
        case Compare(path=path, op=op, value=value):
            return {"field": join_path(path), op.value: value}
        case Not(term=term):
            return {"not": _written(term)}
        case And(terms=terms):
            return {"and": [_written(each) for each in terms]}
        case Or(terms=terms):
            return {"or": [_written(each) for each in terms]}
        case During():
            raise AssertionError("a filter holds no time range")


def to_json(key: Key, now_ms: int) -> dict[str, Any]:
    """The key for programs, without anything secret; `filter` as --filter takes it."""
    return {
        "id": key.id,
        "handle": key.handle,
        "name": key.name,
        "owner": key.owner,
        "scopes": sorted(key.scopes),
        **key.realm.to_data(),
        "filter": None if key.filter is None else _written(key.filter),
        "state": key.state(now_ms),
        "created": iso(key.created_ms),
        "expires": iso(key.expires_ms),
        "revoked": iso(key.revoked_ms),
        "used": iso(key.used_ms),
    }
