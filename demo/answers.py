"""Answers the questions of the warehouse demo from the files alone: no eventferry, no database, a loop and counters."""

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import count

Row = tuple[Any, ...]


def answer_all(root: Path) -> dict[str, list[Row]]:
    """Question → its rows, as the demo's SQL gives them."""
    events, hours, pages = 0, Counter[str](), Counter[str]()
    places: dict[tuple[str, str], list[Any]] = {}
    for line in count.read_events(root):
        event = json.loads(line)
        events += 1
        device = event["device"]
        place = places.setdefault((device["locale"]["country"], device["platform"]["name"]), [set(), 0, 0])
        place[0].add(event["session"]["session_id"])
        place[1] += 1
        place[2] += event["metrics"]["elapsed"]
        if event["event_type"] == "pageView":
            hours[_hour_of(event["event_timestamp"])] += 1
            pages[event["attributes"]["url"]] += 1
    return {
        "events": [(events,)],
        "hours": sorted(hours.items()),
        "pages": sorted(pages.items(), key=lambda row: (-row[1], row[0]))[:5],
        "places": sorted((*place, len(found[0]), _mean(found[2], found[1])) for place, found in places.items()),
    }


def _hour_of(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:00")


def _mean(total: int, number: int) -> int:
    """Rounded as SQL rounds: halves away from zero."""
    return (2 * total + number) // (2 * number)
