"""Mistakes that lie between keys: names taken twice, sources that do not exist, keys that exclude each other."""

from collections.abc import Iterator
from typing import Any

from eventferry.config.alerts import name_of_type
from eventferry.config.locate import KeyPath
from eventferry.config.mistakes import Mistake, did_you_mean
from eventferry.config.stores import SCHEMES


def cross_mistakes(data: dict[str, Any]) -> Iterator[Mistake]:
    """Every such mistake of a file as parsed, however wrong its single values are."""
    sources = _tables(data.get("sources"))
    sinks = _tables(data.get("sinks"))
    alerts = data.get("alerts")
    channels = _tables(alerts.get("channels")) if isinstance(alerts, dict) else []
    named = [{"name": name_of_type(str(each.get("type", index)))} | each for index, each in enumerate(channels)]
    yield from _names(sources, ("sources",))
    yield from _names(sinks, ("sinks",))
    yield from _names(named, ("alerts", "channels"))
    exports = data.get("exports")
    if isinstance(exports, dict):
        yield from _exports(exports, named)
    for index, source in enumerate(sources):
        yield from _source(source, ("sources", index))
    known = {name for each in sources if isinstance(name := each.get("name"), str)}
    for index, sink in enumerate(sinks):
        yield from _sink(sink, ("sinks", index), known)


def _tables(value: Any) -> list[dict[str, Any]]:
    """The list of tables, with an empty one where something else stands."""
    return [each if isinstance(each, dict) else {} for each in value] if isinstance(value, list) else []


def _names(tables: list[dict[str, Any]], path: KeyPath) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for index, table in enumerate(tables):
        name = table.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            text = f"{name!r} is the name of {path[-1]}[{first[name]}] already; give each its own"
            yield Mistake((*path, index, "name"), text)
        first.setdefault(name, index)
    for index, table in enumerate(tables):
        former = table.get("renamed_from")
        if isinstance(former, str) and former in first:
            text = f"{former!r} is still the name of {path[-1]}[{first[former]}]; one of them is to go"
            yield Mistake((*path, index, "renamed_from"), text)


def _source(source: dict[str, Any], path: KeyPath) -> Iterator[Mistake]:
    if "interval" in source and source.get("cron"):
        yield Mistake((*path, "cron"), "interval and cron exclude each other; remove one of them")
    url = source.get("url")
    for table, scheme in SCHEMES.items():
        if _says_something(source.get(table)) and isinstance(url, str) and not url.startswith(f"{scheme}://"):
            article = "an" if scheme[0] in "as" else "a"
            yield Mistake(
                (*path, table),
                f"goes with {article} {scheme}:// url only, and the url is {url.partition('@')[0]!r}; remove it",
            )


def _says_something(table: Any) -> bool:
    """Whether a table sets anything: in the example each stands with its defaults beside the others."""
    return any(value not in ("", False, "auto") for value in table.values()) if isinstance(table, dict) else bool(table)


def _sink(sink: dict[str, Any], path: KeyPath, known: set[str]) -> Iterator[Mistake]:
    wanted = sink.get("sources")
    wanted = wanted if isinstance(wanted, list) else None
    for index, name in enumerate(wanted or ()):
        if isinstance(name, str) and name not in known:
            yield Mistake((*path, "sources", index), f"there is no source {name!r}; {did_you_mean(name, known)}")
    starts = sink.get("start")
    for name in starts if isinstance(starts, dict) else ():
        if name not in known:
            yield Mistake((*path, "start", name), f"there is no source {name!r}; {did_you_mean(name, known)}")
        elif wanted is not None and name not in wanted:
            yield Mistake((*path, "start", name), f"{name!r} is not among the sources of this sink; add it there")


def _exports(exports: dict[str, Any], channels: list[dict[str, Any]]) -> Iterator[Mistake]:
    """Schedules with one name, and letters that no channel takes."""
    schedules = _tables(exports.get("schedules"))
    yield from _names(schedules, ("exports", "schedules"))
    mail = {str(each["name"]) for each in channels if each.get("type") == "email"}
    through = exports.get("mail_through")
    if isinstance(through, str) and through and through not in mail:
        text = f"there is no e-mail channel {through!r} under [[alerts.channels]]; {did_you_mean(through, mail)}"
        yield Mistake(("exports", "mail_through"), text)
    for index, schedule in enumerate(schedules):
        if schedule.get("email") and schedule.get("enabled") is not False and not mail:
            text = 'needs a channel to send letters through; add [[alerts.channels]] with type = "email"'
            yield Mistake(("exports", "schedules", index, "email"), text)
