"""Shows the installed sink types: what each promises, against what that was proved, and what it lacks here."""

from typing import Any

from eventferry.cli import console
from eventferry.cli.wording import count, size
from eventferry.errors import ConfigError
from eventferry.installing import command
from eventferry.sink import Sink
from eventferry.sink.registry import InstalledType, installed, is_installed, load_sink_type

Entry = dict[str, Any]

OURS = "eventferry"


def collect_types() -> list[Entry]:
    """Everything that `eventferry sinks --json` prints, one entry per type."""
    return [_entry(one) for one in installed().values()]


def _entry(one: InstalledType) -> Entry:
    entry: Entry = {
        "type": one.name,
        "package": f"{one.distribution} {one.version}",
        "distribution": one.distribution,
        "version": one.version,
        "problem": None,
    }
    try:
        return entry | _declared(load_sink_type(one.name))
    except ConfigError as error:
        unknown = dict.fromkeys(("guarantee", "proved_against", "can_replace", "max_concurrency", "limits"))
        return entry | unknown | {"experimental": False, "needs": {}, "missing": [], "problem": str(error)}


def _declared(sink_type: type[Sink[Any]]) -> Entry:
    return {
        "guarantee": str(sink_type.guarantee),
        "experimental": sink_type.experimental,
        "proved_against": sink_type.proved_against,
        "needs": dict(sink_type.needs),  # module → what pip installs to get it
        "missing": sorted({requirement for module, requirement in sink_type.needs.items() if not is_installed(module)}),
        "can_replace": sink_type.can_replace,
        "max_concurrency": sink_type.max_concurrency,
        "limits": {"max_events": sink_type.limits.max_events, "max_bytes": sink_type.limits.max_bytes},
    }


def show_types(entries: list[Entry]) -> None:
    """Print them for people; what each was proved against only where there is room."""
    proved = console.is_wide()
    console.table(
        ("Type", "Guarantee", *(["~Proved against"] if proved else []), ">Batch", "~Remarks"),
        [
            (
                one["type"],
                one["guarantee"] or "—",
                *([one["proved_against"] or "—"] if proved else []),
                _batch(one),
                _remarks(one),
            )
            for one in entries
        ],
    )
    console.say()
    console.say('Any function of yours that takes a text works, too: type = "your_module:function".', "dim")


def _batch(one: Entry) -> str:
    limits = one["limits"]
    return f"{count(limits['max_events'])}, {size(limits['max_bytes'])}" if limits else "—"


def _remarks(one: Entry) -> str:
    parts = [f"of {one['package']}"] if one["distribution"] != OURS else []
    parts += [one["problem"]] if one["problem"] else []
    parts += ["experimental"] if one["experimental"] else []
    parts += [f"needs: {command(requirement)}" for requirement in one["missing"]]
    return "; ".join(parts)
