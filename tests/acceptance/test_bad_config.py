"""Bad configurations: refused with exit code 78 and sentences, before anything is touched."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventferry import logs
from eventferry.cli.program import program

SOURCE = '[[sources]]\nname = "events"\nurl = "HOME/store"\n'
SINK = '[[sinks]]\nname = "out"\ntype = "console"\n'
HTTP = '[[sinks]]\nname = "out"\ntype = "http"\nurl = "https://example.org"\n'
DUCKDB = '[[sinks]]\nname = "bi"\ntype = "duckdb"\npath = "HOME/bi.duckdb"\n'

# What is wrong → the file, and what must be said.
BROKEN: dict[str, tuple[str | bytes, list[str]]] = {
    "no TOML": ('name = "x\n', ["config.toml:1:", "is not TOML"]),
    "a table twice": ("[log]\n[log]\n", ["config.toml:2", "is not TOML"]),
    "a key twice": ("a = 1\na = 2\n", ["config.toml:2", "is not TOML"]),
    "deep nesting": ("a = " + "[" * 100_000, ["is nested too deeply"]),
    "a number of 5000 digits": ("a = " + "9" * 5000, ["is not TOML"]),
    "wrong types everywhere": (
        'state_dir = 1\nenabled = "yes"\nsources = 5\nsinks = {a = 1}\nlog = []\n',
        ["state_dir: ", "enabled: 'yes'", "sources: ", "sinks: ", "log: "],
    ),
    "wrong types within": (
        SOURCE + 'max_files = "5"\ninterval = 10\ninclude = "**"\ns3 = 1\n',
        ["config.toml:4: sources[0].max_files", "sources[0].interval", "sources[0].include", "sources[0].s3"],
    ),
    "unknown keys": (
        "sorces = 1\n" + SOURCE + "intervall = 1\n" + SINK + "fitler = []\n[alerts]\nx = 1\n",
        ["sorces: unknown key", 'did you mean "interval"', 'did you mean "filter"', "alerts.x: unknown key"],
    ),
    "a huge file": ("# " + "x" * 2**21, ["is larger than 1 MiB"]),
    "a binary file": (b"\x7fELF\x02\x01\x01\0\0\xff\xfe" + bytes(range(256)), ["is not UTF-8 text"]),
    "UTF-16": ("[log]\n".encode("utf-16"), ["is not UTF-8 text"]),
    "NULs": (b"a = 1\0\n", ["is not TOML"]),
    "a secret that is not set": (HTTP + 'bearer = "${env:NO_SUCH_TOKEN}"\n', ["NO_SUCH_TOKEN is not set"]),
    "a secret in no file": (HTTP + 'bearer = "${file:/no/such/file}"\n', ["/no/such/file: No such file"]),
    "no credential": (HTTP + 'bearer = "${credential:token}"\n', ["LoadCredential=token:"]),
    "a credential that is a path": (HTTP + 'bearer = "${credential:../x}"\n', ["not a name"]),
    "two sources of one name": (SOURCE + SOURCE, ["sources[1].name: 'events' is the name of sources[0] already"]),
    "two sinks of one name": (SINK + SINK, ["sinks[1].name: 'out' is the name of sinks[0] already"]),
    "no names at all": ("[[sources]]\n[[sinks]]\n", ["sources[0].name", "sources[0].url", "sinks[0].name"]),
    "a name that leads elsewhere": (SINK.replace('"out"', '"../../etc"'), ["'../../etc' is not a name"]),
    "a name of two lines": (SINK.replace('"out"', r'"a\nb"'), [r"'a\nb' is not a name"]),
    "a name in full width": (SINK.replace("out", "ｏｕｔ"), ["'ｏｕｔ' is not a name"]),
    "a name of 64 characters": (SINK.replace("out", "x" * 64), ["is not a name"]),
    "a type that is not there": (SINK.replace("console", "consle"), ["'consle'", "console"]),
    "a column of 64 bytes": (DUCKDB + f'columns = {{{"c" * 64} = "a"}}\n', ["is not a usable name"]),
    "a column that is SQL": (DUCKDB + """columns = {'"; DROP TABLE events; --' = "a"}\n""", ["is not a usable name"]),
    "columns that differ in case": (DUCKDB + 'columns = {a = "a", A = "b"}\n', ["differs from 'a' in case only"]),
    "a column that every table has": (DUCKDB + 'columns = {Event = "a"}\n', ["is a column that every table has"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_refused_with_sentences(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mistake with its place and no traceback; no state, no ledger and no sink's file comes into being."""
    content, said = BROKEN[name]
    config = tmp_path / "config.toml"
    (tmp_path / "store").mkdir()
    text = content.replace("HOME", str(tmp_path)).encode() if isinstance(content, str) else content
    config.write_bytes(text)
    for variable in ("CREDENTIALS_DIRECTORY", "NO_SUCH_TOKEN", "EVENTFERRY_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    done = CliRunner().invoke(program, ["--config", str(config), "once"])
    logs.set_redactor(None)
    assert done.exit_code == 78, done.output
    for words in said:
        assert words in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.output
    assert len(done.stderr) < 5000
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "store"}
