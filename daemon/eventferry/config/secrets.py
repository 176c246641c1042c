"""Secrets: fetches the ones that the configuration refers to, and blots out known ones in text for people."""

import base64
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

KeyPath = tuple[str | int, ...]

MASK = "***"

_REFERENCE = re.compile(r"(\$)?\$\{([^}]*)\}")
_LARGEST_FILE = 64 * 1024
_DATABASES = ("postgresql", "postgres", "redshift", "mysql", "mariadb")
_SHORTEST = 4  # blotting out shorter values would blacken ordinary text and guard nothing
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|salt|credential|authorization|api_?key|(private|access|account|routing|signing)_?key"
    r"|webhook|dsn|connection_string|cookie|bearer|headers"
)


def is_secret_name(name: str) -> bool:
    """Whether a key's name says that its value must not be shown; the path of a file that holds a secret is none."""
    plain = name.lower().replace("-", "_")
    return _SECRET_NAME.search(plain) is not None and not plain.endswith("_file")


class Redactor:
    """Knows secret values and blots them out: exact, URL-encoded, inside base64, and the telling parts of a URL.

    Safe to use from several threads; a value once added is never forgotten, so a rotated one stays hidden too.
    """

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, value: str) -> None:
        """From now on `redact` hides this value; values of less than four characters are not hidden."""
        forms = {form for form in _forms_of(value) if len(form) >= _SHORTEST}
        with self._lock:
            if forms <= self._forms:
                return
            self._forms |= forms
            longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by ***."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


redactor = Redactor()  # the one of this process: what a load resolves is hidden wherever the process writes


def _forms_of(value: str) -> Iterator[str]:
    """The value in every spelling in which it may turn up in a message."""
    for part in (value, *value.splitlines(), *_parts_of_url(value), *_parts_of_pairs(value)):
        part = part.strip()
        if len(part) < _SHORTEST:
            continue
        yield from (part, quote(part, safe=""), quote(part), quote_plus(part), repr(part)[1:-1])
        yield part.replace("\\", "\\\\").replace('"', '\\"')
        yield from _inside_base64(part.encode())


def _parts_of_url(value: str) -> Iterator[str]:
    """What of a secret URL appears alone in the messages of HTTP clients: password, path with query, and both alone.

    A database's URL has its name for a path, which messages show.
    """
    if "://" not in value:
        return
    try:
        url = urlsplit(value)
    except ValueError:
        return
    yield url.password or ""
    if url.scheme.partition("+")[0] in _DATABASES:
        return
    for part in (url.path, url.query):
        if len(part) >= 8:
            yield part


def _parts_of_pairs(value: str) -> Iterator[str]:
    """What of a connection string (`AccountName=…;AccountKey=…`) or a token (`sv=…&sig=…`) is secret by itself."""
    for pair in re.split("[;&]", value):
        name, equals, part = pair.partition("=")
        if equals and (is_secret_name(name) or name == "sig"):
            yield part


def _inside_base64(raw: bytes) -> Iterator[str]:
    """The characters that any base64 text which contains these bytes must contain, for each of the three alignments."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        whole = (shift + len(raw)) % 3 == 0
        core = text[(0, 2, 3)[shift] : None if whole else -1]
        if len(core) >= 8:
            yield core
            yield core.replace("+", "-").replace("/", "_")


class SecretError(Exception):
    """A reference cannot be resolved; the text names it with its remedy, never a value."""


class Found(NamedTuple):
    """What a reference stands for."""

    kind: str  # env, file or credential
    value: str


def resolve_text(text: str, environ: Mapping[str, str] | None = None) -> tuple[str, tuple[Found, ...]]:
    """The text with its references replaced, and what was put in. Raises SecretError.

    References are `${env:NAME}`, `${file:/path}` and `${credential:NAME}` (a file in $CREDENTIALS_DIRECTORY);
    `$${` stands for `${`.
    """
    environ = os.environ if environ is None else environ
    found: list[Found] = []

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        found.append(Found(match[2].partition(":")[0], _fetch(match[2], environ)))
        return found[-1].value

    return _REFERENCE.sub(replace, text), tuple(found)


def _fetch(reference: str, environ: Mapping[str, str]) -> str:
    kind, colon, name = reference.partition(":")
    if not colon or kind not in ("env", "file", "credential") or not name:
        raise SecretError(
            f"${{{reference}}} is no reference; write ${{env:NAME}}, ${{file:/path}} or ${{credential:NAME}}, "
            f"or $${{ for a literal ${{"
        )
    if kind == "env":
        return _from_environment(name, environ)
    if kind == "file":
        if not Path(name).is_absolute():
            raise SecretError(f"${{file:{name}}} is a relative path; write an absolute one")
        return _from_file(Path(name), reference)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if "/" in name or name in (".", ".."):
        raise SecretError(f"${{credential:{name}}} is not a name; write the ID of a LoadCredential= line")
    if not directory:
        raise SecretError(
            f"${{credential:{name}}} cannot be read: $CREDENTIALS_DIRECTORY is not set; systemd sets it for units with "
            f"LoadCredential={name}:/path"
        )
    return _from_file(Path(directory, name), reference)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        raise SecretError(
            f"${{env:{name}}}: the environment variable {name} is {state}; set it, or use ${{file:/path}}"
        )
    return value


def _from_file(path: Path, reference: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
        text = raw.decode()
    except OSError as error:
        raise SecretError(f"${{{reference}}}: cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SecretError(f"${{{reference}}}: {path} is not UTF-8 text") from None
    if len(raw) > _LARGEST_FILE:
        raise SecretError(f"${{{reference}}}: {path} is larger than 64 KiB; a secret is a short text")
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise SecretError(f"${{{reference}}}: {path} is empty")
    return value


def resolve_tree(
    data: Any, environ: Mapping[str, str] | None = None
) -> tuple[Any, dict[KeyPath, tuple[Found, ...]], dict[KeyPath, str]]:
    """The data with every reference in every text replaced; what was put in, and the failures, by key path."""
    found: dict[KeyPath, tuple[Found, ...]] = {}
    failed: dict[KeyPath, str] = {}

    def visit(node: Any, path: KeyPath) -> Any:
        if isinstance(node, dict):
            return {key: visit(value, (*path, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [visit(value, (*path, index)) for index, value in enumerate(node)]
        if not isinstance(node, str) or "${" not in node:
            return node
        try:
            text, values = resolve_text(node, environ)
        except SecretError as error:
            failed[path] = str(error)
            return node
        if values:
            found[path] = values
        return text

    return visit(data, ()), found, failed
