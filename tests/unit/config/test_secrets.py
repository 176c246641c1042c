"""Secrets are found where the configuration says, and are not seen again."""

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.config.secrets import Redactor, SecretError, is_secret_name, resolve_text, resolve_tree


def test_references_are_replaced_by_what_they_name(tmp_path: Path) -> None:
    """Environment, files and systemd credentials, alone or inside a text; one final newline is not part of a file's."""
    (tmp_path / "slack").write_text("xoxb\n")
    environ = {"USER_NAME": "me", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    text = f"a ${{env:USER_NAME}} b ${{file:{tmp_path}/slack}} c ${{credential:slack}}"
    resolved, found = resolve_text(text, environ)
    assert resolved == "a me b xoxb c xoxb"
    assert [tuple(each) for each in found] == [("env", "me"), ("file", "xoxb"), ("credential", "xoxb")]


def test_an_escaped_reference_is_text() -> None:
    """A literal ${ can be written, and what was put in is not looked through again."""
    assert resolve_text("$${env:X} $5 $x {y}", {}) == ("${env:X} $5 $x {y}", ())
    assert resolve_text("${env:X}", {"X": "${env:Y}"})[0] == "${env:Y}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${env:NOPE}", "NOPE is not set"),
        ("${env:EMPTY}", "EMPTY is empty"),
        ("${file:/no/such/file}", "/no/such/file: No such file"),
        ("${file:relative}", "relative path"),
        ("${file:/}", "cannot read /"),
        ("${credential:slack}", "LoadCredential=slack:/path"),
        ("${credential:../x}", "not a name"),
        ("${HOME}", "no reference"),
        ("${vault:x}", "no reference"),
        ("${env:}", "no reference"),
    ],
)
def test_a_missing_secret_is_named_with_its_remedy(text: str, words: str) -> None:
    """No secret is silently empty."""
    with pytest.raises(SecretError, match=words.replace("$", r"\$")):
        resolve_text(text, {"EMPTY": ""})


def test_files_that_cannot_be_secrets_are_refused(tmp_path: Path) -> None:
    """Binary, empty and huge files are mistakes, told without their content."""
    for content, words in ((b"\xff\xfe", "not UTF-8"), (b"\n", "is empty"), (b"x" * 70_000, "larger than 64 KiB")):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(SecretError, match=words):
            resolve_text(f"${{file:{tmp_path}/f}}", {})


def test_every_failure_in_a_tree_is_told() -> None:
    """One look names all missing secrets."""
    data, found, failed = resolve_tree({"a": ["${env:A}", {"b": "${env:B}"}], "c": "${env:C}"}, {"C": "see"})
    assert set(failed) == {("a", 0), ("a", 1, "b")}
    assert set(found) == {("c",)}
    assert data["c"] == "see"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=4, max_size=30).filter(lambda text: len(text.strip()) >= 4))
def test_a_secret_is_hidden_in_every_spelling(secret: str) -> None:
    """Exact, URL-encoded, and as a basic-authentication header, whatever stands before it."""
    redactor = Redactor()
    redactor.add(secret)
    for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
        assert secret.strip() not in redactor.redact(f"<{spelling}>").removeprefix("<")
        assert "***" in redactor.redact(f"<{spelling}>")
    if len(secret.strip().encode()) >= 9:
        for user in ("", "u", "us", "use"):
            encoded = base64.b64encode(f"{user}:{secret.strip()}!".encode()).decode()
            assert "***" in redactor.redact(encoded)


def test_the_parts_of_a_secret_url_are_hidden_too() -> None:
    """HTTP clients name host and path apart from each other in their errors."""
    redactor = Redactor()
    redactor.add("https://user:pa55word@hooks.example.com/services/T000/B000/XXXX")
    said = "HTTPSConnectionPool(host='hooks.example.com'): exceeded with url: /services/T000/B000/XXXX (pa55word)"
    assert redactor.redact(said) == "HTTPSConnectionPool(host='hooks.example.com'): exceeded with url: *** (***)"


def test_the_name_of_a_database_is_shown() -> None:
    """Messages say which database; only its passwords are hidden, wherever they stand in the URL."""
    redactor = Redactor()
    redactor.add("postgresql://ann:pa55word@db:5432/analytics?sslmode=require&password=hush1234")
    said = redactor.redact("db:5432/analytics refuses pa55word and hush1234 (sslmode=require)")
    assert said == "db:5432/analytics refuses *** and *** (sslmode=require)"


def test_texts_without_secrets_are_untouched() -> None:
    """A redactor that knows nothing, or only values too short to hide, changes nothing."""
    redactor = Redactor()
    assert redactor.redact("abc") == "abc"
    redactor.add("ab")
    redactor.add("")
    assert redactor.redact("abc") == "abc"


@pytest.mark.parametrize("name", ["password", "api_key", "X-Api-Key", "Authorization", "secret_key", "bearer", "token"])
def test_secrets_are_known_by_name(name: str) -> None:
    """A secret written into the file in clear is hidden too."""
    assert is_secret_name(name)
    assert not is_secret_name(f"{name}_file")  # a path, which people have to see


def test_redaction_needs_no_pydantic() -> None:
    """The log can hide secrets without loading the models."""
    code = "import sys; from eventferry.config import redactor; print('pydantic' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
