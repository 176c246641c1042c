"""Shows the status to people."""

import datetime as dt
from typing import Any

from eventferry import clock
from eventferry.cli import console
from eventferry.cli.place import DEFAULT_CONFIG, Place
from eventferry.cli.wording import ago, at, count, duration, lasted, size, until

Entry = dict[str, Any]

_DAEMON = {"running": "green", "silent": "bold red", "died": "bold red", "stopped": "yellow"}
_SINK = {"active": "green", "held": "bold red", "paused": "yellow"}


def show_nothing_yet(place: Place) -> None:
    """What stands there before the first run."""
    named = "" if place.config == DEFAULT_CONFIG else f" --config {place.config}"
    console.say(f"Nothing has run here yet: there is no ledger at {place.ledger}.")
    console.say()
    console.advise(f"eventferry{named} check     tries everything that a run needs", indent=0)
    console.advise(f"eventferry{named} once      looks for files and delivers them, once", indent=0)


def show(found: Entry) -> None:
    """Print everything that `collect` found."""
    _show_daemon(found["daemon"])
    _show_config(found["config"])
    _show_books(found)
    _show_sources(found["sources"])
    _show_sinks(found["sinks"])
    _show_problems(found["problems"])


def _ms(text: str | None) -> int | None:
    return None if text is None else clock.to_ms(dt.datetime.fromisoformat(text))


def _line(label: str, text: str, style: str = "") -> None:
    from rich.text import Text

    console.console().print(Text.assemble((f"{label:<8}", "dim"), (console.clean(text), style)), soft_wrap=True)


def _show_daemon(daemon: Entry) -> None:
    since, stopped, heartbeat = _ms(daemon["since"]), _ms(daemon["stopped"]), _ms(daemon["heartbeat"])
    style = _DAEMON[daemon["state"]]
    if daemon["state"] == "running":
        when = f" since {at(since)} ({lasted(since)})" if since else ""
        _line("Daemon", f"running{when}, pid {daemon['pid']}", style)
    elif daemon["state"] == "silent":
        _line("Daemon", f"running, but nothing moved since {at(heartbeat or 0)}", style)
        console.advise("systemctl restart eventferry")
    elif daemon["state"] == "died":
        _line("Daemon", f"not running; it ended without a word after {at(heartbeat or 0)}", style)
        console.advise("journalctl -u eventferry -n 50; systemctl restart eventferry")
    else:
        _line("Daemon", "not running" + (f"; stopped {ago(stopped)}" if stopped else ""), style)


def _show_config(config: Entry) -> None:
    loaded, edited = _ms(config["loaded"]), _ms(config["edited"])
    match config["state"]:
        case "unknown":
            _line("Config", config["path"])
        case "loaded":
            _line("Config", f"{config['path']}, loaded {at(loaded or 0)}")
        case "other":
            _line("Config", f"the daemon loaded {config['other_path']}, not {config['path']}", "yellow")
        case "edited":
            _line("Config", f"{config['path']}, edited {at(edited or 0)}, not loaded", "yellow")
            console.advise("eventferry reload")
        case _:
            _line("Config", f"{config['path']}, edited {at(edited or 0)}, not loaded: it has mistakes", "bold red")
            for problem in config["problems"]:
                console.mark(console.BAD, problem, indent=2)


def _show_books(found: Entry) -> None:
    if found["balanced"]:
        _line("Books", "balance: every event is delivered, filtered, waiting, or kept as a dead letter")
        return
    _line("Books", "DO NOT BALANCE; please report this with `eventferry status --json`", "bold red")


def _show_sources(entries: list[Entry]) -> None:
    if not entries:
        return
    console.heading("Sources")
    console.table(
        ("Name", "Last run", ">New", "Next run", ">Files", ">Events", ">Bad lines", "~Remarks"),
        [_source_row(each) for each in entries],
    )


def _source_row(each: Entry) -> tuple[object, ...]:
    run, next_run = each["last_run"], _ms(each["next_run"])
    remarks = []
    if run and run["error"]:
        remarks.append("cannot be listed")
    if run and run["limited"]:
        remarks.append("more wait")
    if each["quarantined"]:
        remarks.append(f"{count(each['quarantined'])} quarantined")
    if each["held"]:
        remarks.append(f"{count(each['held'])} held")
    if each["foreign_keys"]:
        remarks.append(f"{count(each['foreign_keys'])} foreign")
    if not each["configured"]:
        remarks.append("no longer configured")
    elif each["enabled"] is False:
        remarks.append("switched off")
    style = "bold red" if each["quarantined"] or each["held"] or (run and run["error"]) else "dim"
    return (
        each["name"],
        ago(_ms(run["finished"] or run["started"])) if run else "never",
        count(run["found"]) if run else "—",
        until(None if next_run is None else clock.from_ms(next_run)),
        count(each["files"]),
        count(each["events"]),
        count(each["bad"]),
        console.styled(", ".join(remarks), style),
    )


def _show_sinks(entries: list[Entry]) -> None:
    if not entries:
        return
    console.heading("Sinks")
    columns = ("Name", "State", ">Lag", ">Backlog", ">Delivered", ">Dead")
    more = (">Size of backlog", "Last delivery", "Guarantee") if console.is_wide() else ()
    console.table((*columns, *more), [_sink_row(each)[: len(columns) + len(more)] for each in entries])
    for each in entries:
        if each["reason"] and each["enabled"] and each["state"] != "paused":
            again = _ms(each["next_try"])
            console.mark(
                console.MIND, f"{each['name']}: {each['reason']}" + (f"; next try {at(again)}" if again else "")
            )


def _sink_row(each: Entry) -> tuple[object, ...]:
    since = _ms(each["since"])
    word, style = each["state"], _SINK.get(each["state"], "")
    if not each["enabled"]:
        word, style = "switched off", "dim"
    elif each["state"] != "active" and since:
        word = f"{word} {lasted(since)}"
    elif each["failures"]:
        word, style = "trying again", "yellow"
    events, letters = each["backlog_events"], each["dead_letters"]
    return (
        each["name"],
        console.styled(f"● {word}", style),
        " ".join(duration(each["lag_seconds"]).split(" ")[:2]) if events else "none",
        count(events) if events else "none",
        count(each["delivered"]),
        console.styled(count(letters), "bold red" if letters else ""),
        size(each["backlog_bytes"]) if events else "none",
        ago(_ms(each["last_delivered"])),
        each["guarantee"] or "unknown",
    )


def _show_problems(entries: list[Entry]) -> None:
    console.say()
    if not entries:
        console.mark(console.OK, "No open problems.")
        return
    console.say("Problems", "bold")
    for each in entries:
        sign = console.BAD if each["level"] == "error" else console.MIND
        console.mark(sign, f"{each['subject']} (since {at(_ms(each['since']) or 0)})")
        for line in each["detail"].split("\n") if each["detail"] else ():
            console.say(f"  {line}", "dim")
        if each["command"]:
            console.advise(each["command"])
