"""Sink types by name: found without importing, loaded one at a time, refused with a remedy."""

import subprocess
import sys
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, SecretStr

from eventferry.errors import ConfigError
from eventferry.installing import command
from eventferry.sink import Batch, Sink, SinkOptions
from eventferry.sink.registry import installed, load_sink_type, make_sink


class Inner(BaseModel, extra="forbid"):
    size: int = 1


class Options(SinkOptions):
    host: str
    port: int = 1
    mode: Literal["a", "b"] = "a"
    token: SecretStr | None = None
    inner: dict[str, Inner | str] = {}  # noqa: RUF012 - pydantic copies it


class Good(Sink[Options]):
    Options = Options

    def deliver(self, batch: Batch) -> None: ...


class Unfinished(Sink[SinkOptions]):
    pass


class Tomorrow(Good):
    contract = 2


class Lax(Good):
    class Options(SinkOptions, extra="allow"):
        pass


class Needier(Good):
    needs: ClassVar = {"no_such_library": "acme-bi[needy]", "nor_this_one": "acme-bi[needy]", "json": "json"}


class Needy(Good):
    needs: ClassVar = {"no_such_library_of.ours": "acme-bi[needy]"}


def _problems(options, kind="Good"):
    with pytest.raises(ConfigError) as caught:
        make_sink(f"{__name__}:{kind}", "bi", options)
    return list(caught.value.problems)


def test_our_types_are_installed():
    """The four types that ship are registered by entry points, like anybody's."""
    found = installed()
    assert {"console", "duckdb", "file", "http"} <= set(found)
    assert found["file"].distribution == "eventferry"
    assert list(found) == sorted(found)


def test_listing_and_loading_import_only_what_is_named():
    """A type that nobody configured costs no import, and no type imports its client library before open."""
    program = (
        "import sys; from eventferry.sink.registry import *; installed();"
        "assert not any(m.startswith('eventferry_sinks') for m in sys.modules);"
        "make_sink('duckdb', 'a', {'path': '/x/y'}); load_sink_type('file');"
        "bad = {'duckdb', 'requests', 'eventferry_sinks.http', 'fastapi', 'sqlalchemy'} & set(sys.modules);"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_unknown_type_names_the_installed_ones():
    """A typo is answered with the closest name and the whole list."""
    with pytest.raises(ConfigError) as caught:
        load_sink_type("duckbd")
    assert "'duckbd' is not installed; did you mean 'duckdb'?" in str(caught.value)
    assert "console" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_module_of_ours:process", "there is no module 'no_such_module_of_ours'; install the package"),
        ("os:no_such_function", "os has no 'no_such_function'"),
        ("os.path:jion", "did you mean 'join'"),
    ],
)
def test_a_callable_that_is_not_there_is_named(target, words):
    """Module or attribute: the message says which is missing."""
    with pytest.raises(ConfigError, match=words):
        load_sink_type(target)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Unfinished", "does not define deliver"),
        ("Tomorrow", "version 2 of the sink contract"),
        ("Lax", 'expected extra="forbid"'),
        ("Inner", "is not a sink; expected a subclass"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused(kind, words):
    """What would fail in the night is refused when it is loaded."""
    with pytest.raises(ConfigError, match=words):
        load_sink_type(f"{__name__}:{kind}")


def test_a_missing_client_library_names_the_command():
    """The configuration check says what to install, together with every other mistake."""
    problems = _problems({}, "Needy")
    assert problems[0].endswith(f"not installed here; run: {command('acme-bi[needy]')}")
    assert problems[1] == "sinks.bi.host: missing; this option has no default"


def test_libraries_of_one_command_are_one_problem():
    """Who runs it has both."""
    found = _problems({"host": "h"}, "Needier")
    installs = [each for each in found if " install " in each]
    assert len(installs) == 1
    assert "needs 'no_such_library' and 'nor_this_one', not installed here" in installs[0]


def test_an_import_error_inside_a_plugin_names_the_library(tmp_path, monkeypatch):
    """A plugin that imports its library at its top fails with the library's name, not with a traceback."""
    (tmp_path / "plugin_without_library.py").write_text("import library_of_the_plugin.client\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"needs 'library_of_the_plugin', .*bin/pip install"):
        load_sink_type("plugin_without_library:process")


def test_every_mistake_is_one_sentence():
    """Key, value and what was expected, all of them at once."""
    assert _problems({"host": 3, "port": "x", "mode": "c", "prot": 1, "inner": {"a": {"size": "big"}}}) == [
        "sinks.bi.host: 3 expected a valid string",
        "sinks.bi.port: 'x' expected a valid integer, unable to parse string as an integer",
        "sinks.bi.mode: 'c' expected 'a' or 'b'",
        "sinks.bi.inner.a.size: 'big' expected a valid integer, unable to parse string as an integer",
        "sinks.bi.inner.a: a table expected a valid string",
        "sinks.bi.prot: unknown key; did you mean 'port'?",
    ]


def test_no_mistake_shows_a_secret():
    """The value of a secret option, of an unknown key and of a URL's query stays hidden."""
    text = "\n".join(
        [
            *_problems({"host": "h", "token": 4711, "tokn": "geheim"}),
            *_problems({"host": "h", "port": "https://u:geheim@h/?k=geheim"}),
        ]
    )
    assert "geheim" not in text
    assert "4711" not in text


HTTP = {"url": "https://example.org/in"}


@pytest.mark.parametrize(
    ("type", "options", "sentence"),
    [
        ("http", {"url": "htp://x"}, "sinks.bi.url: 'htp://x' is not a URL; expected https://…"),
        ("http", {"url": "https://u:p@x/"}, "holds a user name or a password"),
        ("http", {**HTTP, "timeout": "soon"}, "sinks.bi.timeout: 'soon' is not a duration; expected"),
        ("http", {**HTTP, "timeout": 0}, "sinks.bi.timeout: 0 expected"),
        ("http", {**HTTP, "headers": {"A b": "c"}}, "'A b' is not the name of a header"),
        ("http", {**HTTP, "headers": {"A": "c\r\nd"}}, "is not a header's value"),
        ("http", {**HTTP, "headers": {"content-type": "x"}}, "is set by eventferry itself"),
        ("http", {**HTTP, "headers": {"A": "x", "a": "y"}}, "is given twice"),
        ("http", {**HTTP, "bearer": "x", "username": "u", "password": "p"}, "exclude each other"),
        ("http", {**HTTP, "username": "u"}, "belong together"),
        ("http", {**HTTP, "expect": []}, "sinks.bi.expect: "),
        ("file", {"path": "relative"}, "sinks.bi.path: 'relative' is not an absolute path"),
        ("file", {"path": "/x", "compression": "gz"}, "sinks.bi.compression: 'gz' expected 'none', 'gzip' or 'zstd'"),
        ("console", {"colour": True}, "sinks.bi.colour: unknown key; expected one of: no options"),
        ("duckdb", {"path": "/x", "table": 'a"; DROP'}, "is not a usable name"),
        ("duckdb", {"path": "/x", "table": "Eventferry_Batches"}, "what was delivered is written down"),
        ("duckdb", {"path": "/x", "columns": {'a"b': "c"}}, "is not a usable name"),
        ("duckdb", {"path": "/x", "table": "1a"}, "sinks.bi.table: '1a' is not a usable name; expected letters"),
        ("duckdb", {"path": "/x", "columns": {"a": {"pth": "b"}}}, "columns.a.pth: unknown key; did you mean 'path'?"),
        ("duckdb", {"path": "/x", "columns": {"a" * 64: "c"}}, "up to 63 bytes"),
        ("duckdb", {"path": "/x", "columns": {"ä" * 32: "c"}}, "up to 63 bytes"),
        ("duckdb", {"path": "/x", "columns": {"page": "a", "Page": "b"}}, "differs from 'page' in case only"),
        ("duckdb", {"path": "/x", "columns": {"Event": "a"}}, "is a column that every table has"),
        ("duckdb", {"path": "/x", "columns": {"a": "b..c"}}, "'b..c' is not a path"),
        (
            "duckdb",
            {"path": "/x", "columns": {"a": {"path": "b", "type": "INT"}}},
            "columns.a.type: 'INT' expected",
        ),
    ],
)
def test_our_own_options_say_what_is_wrong(type, options, sentence):
    """Each check of an option's value ends in a sentence with the remedy."""
    with pytest.raises(ConfigError) as caught:
        make_sink(type, "bi", options)
    assert sentence in str(caught.value)
