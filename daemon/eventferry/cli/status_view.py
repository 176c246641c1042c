"""Shows the status to people."""

import datetime as dt
from typing import Any

from eventferry import clock
from eventferry.cli import console
from eventferry.cli.options import is_service
from eventferry.cli.place import Place
from eventferry.cli.syntax import with_remedy
from eventferry.cli.wording import ago, at, count, duration, lasted, plural, plural_noun, size, until

Entry = dict[str, Any]

_DAEMON = {"running": "green", "silent": "bold red", "died": "bold red", "stopped": "yellow"}
_SINK = {"active": "green", "held": "bold red", "paused": "yellow"}


def show_nothing_yet(place: Place) -> None:
    """What stands there before the first run."""
    console.say(f"Nothing has run here yet under {place.config}: there is no ledger at {place.ledger}.")
    console.say()
    console.advise("eventferry check     tries everything that a run needs", indent=0)
    console.advise("eventferry once      looks for files and delivers them, once", indent=0)


def show(found: Entry) -> None:
    """Print everything that `collect` found."""
    _show_daemon(found["daemon"])
    _show_config(found["config"], is_running=found["daemon"]["state"] in ("running", "silent"))
    _show_books(found)
    _show_channels(found["channels"])
    _show_exports(found["exports"])
    _show_sources(found["sources"], found["idle"])
    _show_sinks(found["sinks"], is_running=found["daemon"]["state"] == "running")
    _show_problems(found["problems"], [each["name"] for each in found["sinks"] if each["enabled"] and each["failing"]])


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
        _advise_restart(daemon["pid"])
    elif daemon["state"] == "died":
        _line("Daemon", f"not running; it ended without a word after {at(heartbeat or 0)}", style)
        _advise_restart(None)
    else:
        _line("Daemon", "not running" + (f"; stopped {ago(stopped)}" if stopped else ""), style)


def _advise_restart(pid: int | None) -> None:
    if is_service():
        console.advise(("" if pid else "journalctl -u eventferry -n 50; ") + "systemctl restart eventferry")
        return
    if pid:
        console.advise(f"kill {pid}")
    console.advise("eventferry run")


def _show_channels(channels: list[Entry]) -> None:
    if not channels:
        return
    failing = [each for each in channels if each["failing"]]
    good = [f"{each['name']} ({_last(each)})" for each in channels if not each["failing"]]
    if good:
        _line("Alerts", ", ".join(good))
    for each in failing:
        lost = f", {plural(each['given_up'], 'message')} given up" if each["given_up"] else ""
        waits = f", {plural(each['waiting'], 'message')} waiting" if each["waiting"] else ""
        _line("Alerts", f"{each['name']} does not work{waits}{lost}: {each['error']}", "bold red")
        console.advise(f"eventferry alert test --channel {each['name']}")


def _show_exports(exports: Entry | None) -> None:
    if exports is None:
        return
    under_way = f"{count(exports['queued'])} queued, {count(exports['running'])} running"
    failed = f", {count(exports['failed'])} failed within a day" if exports["failed"] else ""
    _line("Exports", f"{under_way}{failed}; {size(exports['bytes'])} kept", "yellow" if failed else "")


def _last(channel: Entry) -> str:
    sent = _ms(channel["last_sent"])
    return "no message yet" if sent is None else f"last message {ago(sent)}"


def _show_config(config: Entry, *, is_running: bool) -> None:
    loaded, edited = _ms(config["loaded"]), _ms(config["edited"])
    match config["state"]:
        case "unknown":
            _line("Config", config["path"])
        case "broken":
            goes_on = "the daemon goes on with what it had" if is_running else "nothing can start with it"
            _line("Config", f"{config['path']} has mistakes, or is not there; {goes_on}", "bold red")
            console.advise("eventferry check")
        case "loaded":
            _line("Config", f"{config['path']}, loaded {at(loaded or 0)}")
        case "other":
            _line("Config", f"the daemon loaded {config['other_path']}, not {config['path']}", "yellow")
        case "edited" if not is_running:
            _line("Config", f"{config['path']}, edited {at(edited or 0)}; the next start loads it")
        case "edited":
            _line("Config", f"{config['path']}, edited {at(edited or 0)}, not loaded", "yellow")
            console.advise("eventferry reload")
        case _:
            _line("Config", f"{config['path']}, edited {at(edited or 0)}, not loaded: it has mistakes", "bold red")
            for problem in config["problems"]:
                console.mark(console.BAD, with_remedy(problem), indent=2)


def _show_books(found: Entry) -> None:
    if found["balanced"]:
        _line("Books", "balance: every event is delivered, filtered, waiting, missing or a dead letter")
        return
    _line("Books", "DO NOT BALANCE; please report this with `eventferry status --json`", "bold red")


def _show_sources(entries: list[Entry], idle: str | None) -> None:
    if idle:
        _line("Sources", f"nothing is listed: {idle}", "yellow")
    if not entries:
        return
    console.heading("Sources")
    console.table(
        ("Name", "Last run", ">New", "Next run", ">Files", ">Events", ">Bad lines", "~Remarks"),
        [_source_row(each) for each in entries],
    )
    if any(each["unreadable"] for each in entries):
        console.advise("eventferry files list --state seen   shows what is not readable yet, and why")


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
    if each["unreadable"]:
        remarks.append(f"{count(each['unreadable'])} not readable yet")
    if each["foreign_keys"]:
        remarks.append(f"{count(each['foreign_keys'])} foreign")
    if not each["configured"]:
        remarks.append("not in the config any more")
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


def _show_sinks(entries: list[Entry], *, is_running: bool) -> None:
    if not entries:
        return
    console.heading("Sinks")
    columns = ("Name", "State", ">Lag", ">Backlog", ">Delivered", ">Dead")
    more = (">Size of backlog", "Last delivery", "Guarantee") if console.is_wide() else ()
    console.table((*columns, *more), [_sink_row(each)[: len(columns) + len(more)] for each in entries])
    for each in entries:
        if each["reason"] and each["enabled"] and each["state"] != "paused":
            console.mark(console.MIND, f"{each['name']}: {each['reason']}{_next_try(each, is_running=is_running)}")
    for each in entries:
        _show_remarks(each)
        if each["indexed"] != each["delivered"] + each["dead_parts"]["retried"] + each["backlog_events"]:
            console.say(f"  {each['name']}: {_sum(each)}")


def _next_try(each: Entry, *, is_running: bool) -> str:
    again = _ms(each["next_try"])
    if again is None:
        return ""
    if again > clock.now_ms():
        return f"; next try {at(again)}" + ("" if is_running else " or later, by the daemon or `once`")
    return "; next try now" if is_running else "; next try with the next run"


def _sum(each: Entry) -> str:
    """What became of everything that was indexed, in parts that add up to it."""
    dead = each["dead_parts"]
    parts = (
        (each["delivered"], "delivered"),
        (dead["retried"], "delivered by a retry"),
        (each["filtered"], "filtered"),
        (dead["waiting"], plural_noun(dead["waiting"], "dead letter")),
        (dead["retrying"], plural_noun(dead["retrying"], "dead letter") + " being sent again"),
        (dead["dropped"], plural_noun(dead["dropped"], "dead letter") + " dropped"),
        (dead["forgotten"], plural_noun(dead["forgotten"], "dead letter") + " of long ago"),
        (each["missing"], "missing"),
        (each["waiting"], "waiting"),
    )
    told = " + ".join(f"{count(number)} {what}" for number, what in parts if number)
    again = each["backlog_events"] - each["waiting"]
    more = f"; {count(again)} more to be sent again by a replay" if again > 0 else ""
    return f"{count(each['indexed'])} indexed = {told or 0}{more}"


def _sink_row(each: Entry) -> tuple[object, ...]:
    since = _ms(each["since"])
    word, style = each["state"], _SINK.get(each["state"], "")
    if not each["configured"]:
        word, style = "not in the config any more", "dim"
    elif not each["enabled"]:
        word, style = "switched off", "dim"
    elif each["state"] != "active" and since:
        word = f"{word} {lasted(since)}"
    elif each["failing"]:
        word, style = "trying again", "yellow"
    events, letters = each["backlog_events"], each["dead_letters"]
    return (
        each["name"],
        console.styled(f"● {word}", style),
        " ".join(duration(each["lag_seconds"]).split(" ")[:2]) if events else "none",
        count(events) if events else "none",
        count(each["delivered"] + each["dead_parts"]["retried"]),
        console.styled(count(letters), "bold red" if letters else ""),
        size(each["backlog_bytes"]) if events else "none",
        ago(_ms(each["last_delivered"])),
        _promise(each),
    )


def _promise(each: Entry) -> str:
    remarks = ["lowered"] * each["lowered"] + ["experimental"] * each["experimental"]
    return (each["guarantee"] or "unknown") + (f" ({', '.join(remarks)})" if remarks else "")


def _show_remarks(each: Entry) -> None:
    """What this place cannot keep, and what happened to values on the way, in one line."""
    told = [f"{each['guarantee']} only: this place cannot keep more (`eventferry check` says why)"] * each["lowered"]
    told += [_counted(one["what"], one["of"], one["number"]) for one in each["counts"]]
    if told:
        console.say(f"  {each['name']}: {'; '.join(told)}", "dim")


def _counted(what: str, of: str, number: int) -> str:
    match what:
        case "values.misfitted":
            verb = plural_noun(number, "value did", "values did")
            return f"{count(number)} {verb} not fit column {of} (kept in event)"
        case "values.discarded":
            return f"{plural(number, 'value')} of {of} left out, for the table lacks that column (kept in event)"
        case "columns.added":
            return f"column {of} was added"
        case "bytes.sent":
            return f"{size(number)} sent"
    return f"{what}{' ' + of if of else ''}: {count(number)}"


def _show_problems(entries: list[Entry], failing: list[str]) -> None:
    console.say()
    if not entries and failing:
        which = f"{plural_noun(len(failing), 'sink')} {', '.join(failing)} {plural_noun(len(failing), 'fails', 'fail')}"
        console.mark(console.MIND, f"No alert is open, but {which}, as is said above, and will be tried again.")
        return
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
