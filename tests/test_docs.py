"""What the documents say is true: alerts, commands, configuration, links, modules."""

import ast
import re
import shlex
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from pydantic import BaseModel

from eventferry.alerts.channels import make_channel
from eventferry.alerts.channels.callables import complaint as channel_complaint
from eventferry.alerts.channels.registry import OWN, load_channel_type
from eventferry.config import Config, Redactor, load_text
from eventferry.sink import registry
from eventferry.sink.callables import complaint as sink_complaint
from eventferry.sink.registry import installed, load_sink_type, make_sink

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted((ROOT / "daemon" / "eventferry").rglob("*.py"))
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "daemon/*.md", "sinks/**/*.md", "systemd/*.md")
    for path in ROOT.glob(pattern)
)
OPERATIONS = ROOT / "docs" / "operations.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
FOR_USERS = [ROOT / "README.md", OPERATIONS, ROOT / "docs" / "coming-from-altis.md"]

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The fenced blocks in one of these languages."""
    for language, block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.M | re.S):
        if language in languages:
            yield block


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def code_words(text: str) -> list[str]:
    """What stands between backticks."""
    return [" ".join(word.split()) for word in re.findall(r"`([^`]+)`", prose(text))]


# -- alerts -----------------------------------------------------------------------------------------------------------


def texts_of(node: ast.expr, tree: ast.Module) -> set[str]:
    """The values that a string expression can have, as far as the module tells."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=body, orelse=other):
            return texts_of(body, tree) | texts_of(other, tree)
        case ast.FormattedValue(value=value):
            return texts_of(value, tree)
        case ast.JoinedStr(values=parts):
            found = {""}
            for part in parts:
                found = {before + after for before in found for after in texts_of(part, tree)}
            return found
        case ast.Name(id=name):
            return values_of(name, tree)
    return set()


def values_of(name: str, tree: ast.Module) -> set[str]:
    """What is assigned to `name` in the module, or in the one from which it is imported."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            found |= texts_of(node.value, tree)
        elif isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            source = ROOT / "daemon" / f"{(node.module or '').replace('.', '/')}.py"
            if source.is_file():
                found |= values_of(name, parsed(source))
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def arguments(keyword: str, *functions: str) -> Iterator[tuple[Path, ast.expr, ast.Module]]:
    """The values given for `keyword` in calls of these functions, wherever the daemon's code has them."""
    for path in CODE:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                for given in node.keywords:
                    if given.arg == keyword and (not functions or called in functions):
                        yield path, given.value, parsed(path)


def alert_events() -> set[str]:
    """Every event about which people can get a message."""
    found: set[str] = set()
    for path, value, tree in arguments("event", "open_condition", "write_notice", "Message"):
        texts = texts_of(value, tree)
        # What is handed on from a stored message has its origin elsewhere.
        assert texts or isinstance(value, ast.Attribute | ast.Name), f"{path}: cannot read {ast.unparse(value)}"
        found |= texts
    return found


def test_every_alert_is_documented_and_no_other() -> None:
    """Whoever is woken by an alert finds it in docs/operations.md, and finds none there that cannot come."""
    documented = re.findall(r"^### `([a-z]+\.[a-z]+)`$", OPERATIONS.read_text(), re.M)
    assert len(documented) == len(set(documented))
    assert set(documented) == alert_events()
    assert {"sink.held", "file.quarantined", "file.held", "alert.suppressed"} <= set(documented)  # it can read the code


# -- commands ---------------------------------------------------------------------------------------------------------


@cache
def program() -> Any:
    from eventferry.cli.program import program as app

    return typer.main.get_command(app)


def commands_in(line: str) -> Iterator[list[str]]:
    """The calls of eventferry in one line of shell, as words after the program's name."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # an apostrophe of a sentence
        return
    at_start = True
    for position, word in enumerate(words):
        if at_start and word.rpartition("/")[2] == "eventferry":
            rest = words[position + 1 :]
            end = next((at for at, each in enumerate(rest) if each in ("&&", "||", "|", ";", ">")), len(rest))
            yield [each.rstrip(";,") for each in rest[:end]]
        at_start = word in ("&&", "||", "|", ";", "--", "sudo") or word.endswith(";")


def complaint_about(words: list[str]) -> str | None:
    """Why this is no command of the program; None where it is one."""
    command = program()
    options = {option for each in command.params for option in each.opts}
    for word in words:
        if word.startswith("-"):
            if word.partition("=")[0] not in options:
                return f"there is no {word} in eventferry {' '.join(words)}"
        elif (below := getattr(command, "commands", None)) is not None:
            if word not in below:
                return f"there is no {word!r} in eventferry {' '.join(words)}"
            command = below[word]
            options |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return None


def wrong_commands(lines: Iterable[str]) -> list[str]:
    return [wrong for line in lines for words in commands_in(line) if (wrong := complaint_about(words))]


@each_document
def test_every_command_in_the_documents_exists(path: Path) -> None:
    """Every call of eventferry that a document shows is one that the program takes."""
    text = path.read_text()
    lines = [line for block in blocks(text, "sh", "bash", "console", "") for line in block.splitlines()]
    assert wrong_commands([*code_words(text), *(line.removeprefix("$ ") for line in lines)]) == []


def test_every_command_that_a_message_names_exists() -> None:
    """Messages and errors end with a command; it can be copied."""
    lines: list[str] = []
    for path in CODE:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                lines += re.findall(r"`(eventferry [^`…]+)`", as_text(node))
    told = [as_text(value) for _, value, _ in arguments("command", "open_condition", "write_notice")]
    told = [part.removeprefix("once it is mended: ") for text in told for part in text.split("; ")]
    assert sum(bool(list(commands_in(line))) for line in told) >= 10
    assert wrong_commands([*lines, *told]) == []


def as_text(node: ast.expr) -> str:
    """A string with X for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join("X" if isinstance(part, ast.FormattedValue) else as_text(part) for part in parts)
    return ""


def test_the_check_of_commands_notices_mistakes() -> None:
    """The tests above can fail: unknown commands, sub-commands and options are found, other programs left alone."""
    assert wrong_commands(["eventferry fly"]) and wrong_commands(["/opt/x/eventferry files burn 3"])
    assert wrong_commands(["eventferry status --nonsense"]) and wrong_commands(["cd / && eventferry fly"])
    assert not wrong_commands(["systemctl reload eventferry", "eventferry files list --state held", "eventferry"])


# -- configuration ----------------------------------------------------------------------------------------------------


def of_known_type(type_: str) -> bool:
    return ":" not in type_


@pytest.fixture
def credentials(tmp_path: Path) -> Mapping[str, str]:
    """An environment with every credential that a document refers to."""
    for path in DOCUMENTS:
        for name in re.findall(r"\$\{credential:([\w-]+)\}", path.read_text()):
            (tmp_path / name).write_text("https://example.com/secret")
    return {"CREDENTIALS_DIRECTORY": str(tmp_path)}


@each_document
def test_every_configuration_loads(path: Path, credentials: Mapping[str, str]) -> None:
    """Each TOML block is accepted as it stands, down to the options of sink types and channels."""

    def make(type_: str, name: str, options: Mapping[str, Any]) -> object:
        return make_channel(type_, name, options) if of_known_type(type_) else None

    for block in blocks(path.read_text(), "toml"):
        if "project" in tomllib.loads(block):
            continue  # a package's own file
        config = load_text(
            block, path.name, check_sinks=False, make_channel=make, environ=credentials, redactor=Redactor()
        )
        with patch.object(registry, "is_installed", return_value=True):  # some libraries have their own environment
            for sink in config.sinks:
                if sink.type in installed():
                    make_sink(sink.type, sink.name, sink.options)


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    """The keys of a table and of the tables below it."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in (field.annotation, *flattened(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys_of(inner)


def flattened(annotation: Any) -> Iterator[Any]:
    for each in typing.get_args(annotation):
        yield each
        yield from flattened(each)


@cache
def known_keys() -> frozenset[str]:
    keys = set(keys_of(Config))
    for name in installed():
        keys |= set(keys_of(load_sink_type(name).Options))
    for name in OWN:
        keys |= set(keys_of(load_channel_type(name, name).Options))
    return frozenset(keys)


TABLES = {
    "sources",
    "sinks",
    "batch",
    "retry",
    "ledger",
    "dead_letters",
    "execution",
    "alerts",
    "log",
    "service",
    "pull",
}
# Names with underscores that are no keys: fields of events, words of others.
NO_KEYS = {"event_timestamp", "cron_schedules"}


def named_keys(text: str) -> Iterator[str]:
    """The configuration keys that a document for users speaks of."""
    for word in code_words(re.sub(r"^#.*$", "", text, flags=re.M)):
        if assigned := re.fullmatch(r"([a-z][a-z0-9_.]*) = .*", word):
            yield assigned[1].rpartition(".")[2]
        elif re.fullmatch(r"[a-z]+(_[a-z]+)+", word) and word not in NO_KEYS:
            yield word
        elif (dotted := re.fullmatch(r"([a-z_]+)\.([a-z_]+)", word)) and dotted[1] in TABLES and dotted[2] != "db":
            yield dotted[2]


@pytest.mark.parametrize("path", FOR_USERS, ids=lambda path: path.name)
def test_every_key_that_is_named_exists(path: Path) -> None:
    """A document for users names no configuration key that there is not."""
    assert sorted(set(named_keys(path.read_text())) - known_keys()) == []


def test_the_check_of_keys_notices_mistakes() -> None:
    """The test above can fail."""
    assert set(named_keys("`max_flies`, `ledger.retentoin` and `nonsense = 3`")) - known_keys() == {
        "max_flies", "retentoin", "nonsense",
    }  # fmt: skip
    assert {"max_files", "retention", "interval", "memory_limit"} <= known_keys()


def test_the_functions_for_altis_fit() -> None:
    """The two functions of the page for Altis users are a channel and a sink as they stand."""
    found: dict[str, Any] = {}
    for block in blocks((ROOT / "docs" / "coming-from-altis.md").read_text(), "python"):
        exec(block, found)
    assert channel_complaint(found["log"]) is None
    assert sink_complaint(found["process"]) is None


# -- links and places -------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_internal_link_leads_somewhere(path: Path) -> None:
    """Links between documents name files and headings that exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(path.read_text()))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_map_names_modules_that_exist() -> None:
    """Each module that ARCHITECTURE.md names is where it says."""
    text, package = ARCHITECTURE.read_text(), ROOT / "daemon" / "eventferry"
    named = {word for word in code_words(text) if re.fullmatch(r"[\w/]+\.py", word)}
    anywhere = {path.name for path in CODE}
    missing = [name for name in named if not (package / name).is_file() and ("/" in name or name not in anywhere)]
    assert missing == []
    assert len(named) > 15
    assert text.count("\n") <= 200


def test_the_layers_are_those_that_are_checked() -> None:
    """ARCHITECTURE.md shows the layers in the order that import-linter enforces."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    enforced = [word for layer in layers for word in re.findall(r"(?<![\w(])\w+(?![\w)])", layer)]
    section = ARCHITECTURE.read_text().partition("## Layers")[2].partition("\n## ")[0]
    shown = [word for row in re.findall(r"^\| (`.+?) \|", section, re.M) for word in re.findall(r"`(\w+)`", row)]
    assert shown == [word for word in enforced if word != "__main__"]


def test_the_map_of_the_daemon_is_complete_and_short() -> None:
    """daemon/README.md is a ten-line map that names every package."""
    text = (ROOT / "daemon" / "README.md").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    packages = {
        path.parent.relative_to(ROOT / "daemon" / "eventferry").parts[0]
        for path in CODE
        if path.name == "__init__.py" and path.parent.name != "eventferry"
    }
    assert [name for name in sorted(packages) if f"`{name}/`" not in text] == []


def test_the_ledger_section_that_errors_point_to_exists() -> None:
    """Errors of the ledger send people to a heading of docs/operations.md."""
    assert "ledger" in anchors(OPERATIONS)


def test_decisions_are_numbered_without_gaps() -> None:
    """Each decision has its number, a context, a decision and its costs."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for path in pages:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} "), path
        assert all(word in text for word in ("**Context.**", "**Decision.**", "**What it costs.**")), path
