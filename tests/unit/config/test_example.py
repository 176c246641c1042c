"""The shipped configuration files: they load, and the example says every option and its default, nothing else."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from eventferry.config import Config, ExecutionConfig, SinkConfig, SourceConfig, initial_text, load_text
from eventferry.config.alerts import AlertsConfig, ChannelConfig
from eventferry.config.pull import ScheduleConfig
from eventferry.config.template import example_text
from eventferry.sink.registry import installed, load_sink_type

INITIAL = initial_text()
EXAMPLE = example_text()
COMMENTED = EXAMPLE.removeprefix(INITIAL)


def uncommented(text: str) -> str:
    """The text with every option switched on; prose stays a comment."""
    return re.sub(r"(?m)^# (?=[\[\w])", "", text)


def blocks() -> list[tuple[str, list[str]]]:
    """Each table of the commented part with its option lines."""
    found: list[tuple[str, list[str]]] = []
    for line in uncommented(COMMENTED).splitlines():
        if line.startswith("["):
            found.append((line, []))
        elif line and not line.startswith("##"):
            found[-1][1].append(line)
    return found


def options() -> list[tuple[str, str]]:
    """Every option line as a small document of its own, with what its table cannot be without."""
    common = [block for block in blocks() if block[0] != "[[sinks]]" or "another-sink" in block[1][0]]
    needed = {
        "[[sources]]": 'name = "s"\nurl = "s3://b/p"\n',
        "[sources.s3]": '[[sources]]\nname = "s"\nurl = "s3://b/p"\n[sources.s3]\n',
        "[[sinks]]": 'name = "k"\ntype = "console"\n',
        "[sinks.batch]": '[[sinks]]\nname = "k"\ntype = "console"\n[sinks.batch]\n',
        "[sinks.retry]": '[[sinks]]\nname = "k"\ntype = "console"\n[sinks.retry]\n',
        "[[alerts.channels]]": 'type = "webhook"\nurl = "https://x/"\n',
        "[sources.gcs]": '[[sources]]\nname = "s"\nurl = "gs://b/p"\n[sources.gcs]\n',
        "[sources.azure]": '[[sources]]\nname = "s"\nurl = "azure://c/p"\n[sources.azure]\n',
        "[exports.s3]": '[exports]\ndirectory = "s3://b/p"\n[exports.s3]\n',
        "[[exports.schedules]]": 'name = "nightly"\ncron = "15 0 * * *"\n',
    }
    found = []
    for header, lines in common:
        for line in lines:
            key = line.split(" = ")[0]
            base = re.sub(rf"(?m)^{key} = .*\n", "", needed.get(header, ""))
            top = '[[sources]]\nname = "events"\nurl = "/x"\n[[sources]]\nname = "another-source"\nurl = "/y"\n'
            text = base if header in base else f"{header}\n{base}"
            found.append((f"{header} {line}", f"{top if key == 'sources' else ''}{text}{line}\n"))
    return found


def test_the_example_begins_with_the_initial_file() -> None:
    """What `eventferry init` writes is the first twenty lines of the example."""
    assert EXAMPLE.startswith(INITIAL)
    assert len(INITIAL.splitlines()) <= 20


def test_the_initial_file_is_a_working_configuration() -> None:
    """It loads without any environment, with one source and one sink of an installed type."""
    config = load_text(INITIAL, environ={})
    assert [source.name for source in config.sources] == ["events"]
    assert [sink.options["path"] for sink in config.sinks] == ["/var/lib/eventferry/delivered"]


def test_the_example_loads_as_it_is_and_uncommented(tmp_path: Path) -> None:
    """Neither the file nor any of its commented options is refused, by eventferry or by the sink types."""
    assert load_text(EXAMPLE, environ={}) == load_text(INITIAL, environ={})
    (tmp_path / "slack-webhook").write_text("https://hooks.example.com/services/T/B/x")
    config = load_text(uncommented(EXAMPLE), environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    proven = {name for name in installed() if not load_sink_type(name).experimental}
    assert {sink.type for sink in config.sinks} == proven


@pytest.mark.parametrize(("line", "text"), [pytest.param(*each, id=each[0]) for each in options()])
def test_each_option_may_be_switched_on_alone(line: str, text: str) -> None:
    """Removing the # of a single line gives a file that loads and that changes nothing but that option."""
    config = load_text(text, environ={})
    assert tomllib.loads(text)
    assert config.to_toml_dict()


def flat(data: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    leaves: dict[tuple[str, ...], Any] = {}
    for key, value in data.items():
        leaves |= flat(value, (*path, key)) if isinstance(value, dict) and value else {(*path, key): value}
    return leaves


def option_names(model: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every option that a model accepts."""
    names: set[tuple[str, ...]] = set()
    for key, field in model.model_fields.items():
        inner = field.annotation
        if key in ("options", "channels") or (not path and key in ("sources", "sinks", "alerts")):
            continue
        names |= option_names(inner, (*path, key)) if hasattr(inner, "model_fields") else {(*path, key)}
    return names


def test_the_example_holds_every_option_and_nothing_else() -> None:
    """An option that is added to a model must be added to the example, and one removed must go."""
    data = tomllib.loads(uncommented(EXAMPLE))
    source, sink, channel = data["sources"][1], data["sinks"][1], data["alerts"]["channels"][1]
    rest = {key: value for key, value in data.items() if key not in ("sources", "sinks", "alerts")}
    alerts = {key: value for key, value in data["alerts"].items() if key != "channels"}
    assert set(flat(source)) == {path[1:] for path in option_names(SourceConfig, ("x",))}
    assert set(flat(sink)) == {path[1:] for path in option_names(SinkConfig, ("x",))}
    assert set(flat(channel)) - {("url",)} == {path[1:] for path in option_names(ChannelConfig, ("x",))}
    assert set(flat(alerts)) == {path[1:] for path in option_names(AlertsConfig, ("x",))}
    schedule = data["exports"]["schedules"][0]
    assert set(flat(schedule)) == {path[1:] for path in option_names(ScheduleConfig, ("x",))}
    assert set(flat(rest)) == option_names(Config)


def test_the_example_says_the_true_defaults() -> None:
    """Uncommenting an option without changing it changes nothing."""
    text = uncommented(COMMENTED).replace('sources = ["events", "another-source"]\n', "")
    config = load_text(text, environ={}, check_sinks=False)
    source, sink, channel = config.sources[0], config.sinks[0], config.alerts.channels[0]
    assert source == SourceConfig(name=source.name, url=source.url)
    assert sink.model_copy(update={"batch": SinkConfig(name="k", type="console").batch}) == SinkConfig(
        name=sink.name, type=sink.type
    )
    assert (sink.batch.max_read, sink.batch.max_wait) == (64 * 1024**2, SinkConfig(name="k", type="x").batch.max_wait)
    assert channel == ChannelConfig(type="webhook", url=channel.options["url"])
    assert config.alerts.model_copy(update={"channels": ()}) == AlertsConfig()
    bare = Config()
    assert config.ledger_url == bare.ledger_url
    assert config.ledger.model_copy(update={"url": None}) == bare.ledger
    assert config.execution == ExecutionConfig(processes=1)
    for name in ("log", "pull", "dead_letters", "service"):
        assert getattr(config, name) == getattr(bare, name)
    assert tomllib.loads(uncommented(INITIAL))["instance"] == bare.instance
    assert tomllib.loads(uncommented(INITIAL))["enabled"] == bare.enabled
    assert tomllib.loads(INITIAL)["state_dir"] == str(bare.state_dir)
