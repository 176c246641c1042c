"""What the documents of sinks say is true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest

from eventferry.sink import registry
from eventferry.sink.registry import installed, load_sink_type, make_sink

ROOT = Path(__file__).parents[3]
FOLDERS = sorted(path.parent for path in (ROOT / "sinks" / "eventferry_sinks").glob("*/sink.py"))
SHARED = {
    "name", "type", "enabled", "sources", "start", "filter", "fields", "drop", "redact", "batch", "concurrency",
}  # fmt: skip


def _blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.M | re.S)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
class TestFolders:
    def test_it_is_registered_and_has_a_contract_test(self, folder):
        """A sink folder is a type under its own name, with a contract test."""
        assert installed()[folder.name].target.startswith(f"eventferry_sinks.{folder.name}.sink:")
        assert (ROOT / "tests" / "contract" / f"test_{folder.name}.py").is_file()

    def test_its_configuration_is_valid(self, folder):
        """The block in the README is accepted as it stands."""
        (block,) = _blocks(folder / "README.md", "toml")
        (table,) = tomllib.loads(block)["sinks"]
        assert table["type"] == folder.name
        options = {key: value for key, value in table.items() if key not in SHARED}
        with patch.object(registry, "is_installed", return_value=True):  # some libraries have their own environment
            make_sink(table["type"], table["name"], options)

    def test_its_readme_tells_every_option_and_the_guarantee(self, folder):
        """Each option has a row with its default, no row is stale, and guarantee and limits are as declared."""
        text = (folder / "README.md").read_text()
        sink_type = load_sink_type(folder.name)
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M))
        assert set(rows) == set(sink_type.Options.model_fields)
        for name, field in sink_type.Options.model_fields.items():
            assert rows[name] == _default(field), name
        assert f"**Guarantee: {sink_type.guarantee}.**" in text
        assert f"up to {sink_type.limits.max_events:,} events and {sink_type.limits.max_bytes // 2**20} MiB" in text
        if sink_type.max_concurrency > 1:
            assert f"up to {sink_type.max_concurrency} at the same time" in text


def _default(field):
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
    return f"`{shown}`"


def test_the_guide_runs(tmp_path):
    """The examples of docs/sinks.md are written down as they stand, and the kit passes on them."""
    blocks = re.findall(r"^```python file=(\S+)\n(.*?)^```$", (ROOT / "docs" / "sinks.md").read_text(), re.M | re.S)
    assert len(blocks) == 5
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    (tmp_path / "test_hook.py").write_text(
        "import pytest, urllib.error\n"
        "from eventferry.sink.kit import make_batch, sample_events\n"
        "from eventferry.sink.registry import make_sink\n"
        "def test_hook():\n"
        "    with make_sink('acme_hook:process', 'a', {}) as sink, pytest.raises(urllib.error.URLError):\n"
        "        sink.deliver(make_batch(sample_events(1)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error", tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed[1]) >= 40, done.stdout


def _row(name):
    kind = load_sink_type(name)
    limits = f"{kind.limits.max_events:,} events, {kind.limits.max_bytes // 2**20} MiB"
    many = f", {kind.max_concurrency} at once" if kind.max_concurrency > 1 else ""
    extra = ", ".join(f"`{each}`" for each in dict.fromkeys(kind.needs.values())) or "–"
    about = kind.proved_against + ("; *experimental*" if kind.experimental else "")
    replaces = "yes" if kind.can_replace else "no"
    return f"| `{name}` | {kind.guarantee} | {extra} | {about} | {limits}{many} | {replaces} |"


def test_the_table_of_sinks_is_what_the_types_declare():
    """Guarantee, extra, what it was proved against, limits: of every type of this repository, as `eventferry sinks`."""
    head = "| type | guarantee | extra | proved against | a batch, instances | replaces |\n|---|---|---|---|---|---|"
    ours = [name for name, one in installed().items() if one.distribution == "eventferry"]
    expected = "\n".join([head, *map(_row, ours)])
    text = (ROOT / "docs" / "sinks.md").read_text()
    (found,) = re.findall(r"<!-- sink types -->\n(.*?)\n<!-- end of sink types -->", text, re.S)
    assert found == expected, f"docs/sinks.md is to say:\n{expected}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_type_says_what_it_was_proved_against(folder):
    """Nobody has to guess; an experimental type says so at the top of its README as well."""
    kind = load_sink_type(folder.name)
    assert kind.proved_against
    is_said = (folder / "README.md").read_text().splitlines()[2].startswith("Experimental: proved against ")
    assert is_said == kind.experimental


def test_the_guides_sink_is_short():
    """A sink type in 30 lines, as promised."""
    (code,) = _blocks(ROOT / "docs" / "sinks.md", "python file=acme_sqlite.py")
    assert sum(1 for line in code.splitlines() if line.strip()) <= 30


def test_the_maps_are_short():
    """sinks/README.md is a map of a few lines that names every folder."""
    lines = [line for line in (ROOT / "sinks" / "README.md").read_text().splitlines() if line.strip()]
    assert len(lines) <= 7 + len(FOLDERS)
    assert all(any(f"`{folder.name}/`" in line for line in lines) for folder in FOLDERS)
