"""Hostile names in a store: each file is carried once, no name leads out of the store or a sink, none is a command."""

import json
import os
import shutil
import subprocess
import sysconfig
import unicodedata
from pathlib import Path

from tests.acceptance.hostile import carry
from tests.builders import HOUR, Ferry, event, numbers

NAMES = [
    "..x", "...", "%2e%2e%2fetc%2fpasswd", "%00", "a\nb", "a\r", " ", "a ", "~", "-rf", "$(reboot)", "`x`", "a'b\"c",
    "a;b|c&d", "*", "[a]", "\\..\\x", "C:", "CON", "\x1b[31mred\x1b]0;x\x07", "[bold]b[/bold]", "<!channel>", "{0}%s",
    "．．／ｅｔｃ", "Event", "event", "EVENT", "é", "e\u0301", "\u202egnp.exe", "\ufeff", "x" * 255,
    "\U0001f6a2" * 63,
]  # fmt: skip


def test_some_of_the_names_are_twins() -> None:
    """The list above is worth something: it holds names that folding case or Unicode forms would make one."""
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in NAMES}) < len(set(NAMES)) == len(NAMES)


def test_files_of_any_name_are_carried_once(tmp_path: Path) -> None:
    """All arrive, twins too; a second look takes none of them again, nor does one after a restart."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["exclude"] = []
        for number, name in enumerate(NAMES):
            path = tmp_path / "events" / HOUR / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(event(number) + b"bad\n")
            os.utime(path, (1e9, 1e9))
        ferry.open()
        ferry.index()
        ferry.deliver()
        ferry.restart()
        ferry.index(full=True)
        ferry.deliver()
        assert sorted(numbers(ferry.script().lines())) == list(range(len(NAMES)))
        assert {row.key for row in ferry.objects()} == {f"{HOUR}/{name}" for name in NAMES}
        assert ferry.source_book().bad == len(NAMES)


def test_no_name_of_a_file_becomes_a_path_at_a_sink(tmp_path: Path) -> None:
    """Files of the `file` sink are named by the batch, so that no key can choose where they lie."""
    (tmp_path / "out").mkdir()
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["exclude"] = []
        ferry.sinks["out"] = {"type": "file", "path": str(tmp_path / "out"), "batch": {"max_events": 1}}
        for number, name in enumerate(NAMES):
            path = tmp_path / "events" / HOUR / name / "..." / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(event(number))
            os.utime(path, (1e9, 1e9))
        ferry.open()
        ferry.index()
        ferry.deliver()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "events", "state", "config.toml"}
    written = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len([path for path in written if path.match("*.ndjson*")]) == len(NAMES)
    assert all(str(path).isascii() and not set(str(path)) & set(" $;|&*[]'\"\\~%") for path in written)


def test_no_name_of_a_file_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    """What `files list`, `status` and their JSON show of such names is text on one line."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"]["exclude"] = []
        ferry.sinks["out"] = {"type": "console", "enabled": False}
        for name in NAMES:
            path = tmp_path / "events" / HOUR / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"bad\n" * 30)
            os.utime(path, (1e9, 1e9))
        ferry.open()
        ferry.index()
        assert ferry.conditions()["file.quarantined:events"].count == len(NAMES)
        config = ferry.path
    program = Path(sysconfig.get_path("scripts")) / "eventferry"
    for command in (["files", "list"], ["files", "list", "--bad"], ["status"], ["files", "list", "--json"]):
        call = [program, "--config", config, *command]
        shown = subprocess.run(call, capture_output=True, text=True, encoding="utf-8")
        assert shown.returncode in (0, 1), shown.stderr
        assert not [char for char in shown.stdout + shown.stderr if char != "\n" and unicodedata.category(char) == "Cc"]
        if "--json" in command:
            keys = {row["key"] for row in json.loads(shown.stdout)}
            assert keys == {f"{HOUR}/{name}" for name in NAMES}


def test_a_key_of_four_kilobytes_is_carried(tmp_path: Path) -> None:
    """Longer than any path that the system takes at once: the way down is walked step by step."""
    with Ferry(tmp_path) as ferry:
        ferry.put(f"{HOUR}/a.ndjson", event(0))
        ferry.put("2026/01/02/04/z.ndjson", event(2))
        below = os.open(tmp_path / "events" / HOUR, os.O_RDONLY)
        for _ in range(17):
            os.mkdir("d" * 250, dir_fd=below)
            above, below = below, os.open("d" * 250, os.O_RDONLY, dir_fd=below)
            os.close(above)
        file = os.open("b.ndjson", os.O_WRONLY | os.O_CREAT, dir_fd=below)
        os.write(file, event(1))
        os.utime(file, (1e9, 1e9))
        os.close(file)
        os.close(below)
        ferry.open()
        ferry.index()
        ferry.deliver()
        assert numbers(ferry.script().lines()) == [0, 1, 2]
        assert max(len(row.key) for row in ferry.objects()) > 4096
        shutil.rmtree(tmp_path / "events")


def test_links_loops_and_things_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    """A link out of the store, links that go in circles, a FIFO, a name that is no text: none is read, none stops."""
    folder = tmp_path / "events" / HOUR
    folder.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.ndjson").write_bytes(event(99))
    (folder / "a-link.ndjson").symlink_to(tmp_path / "secret" / "s.ndjson")
    (folder / "b-folder").symlink_to(tmp_path / "secret")
    (folder / "c-loop").symlink_to(folder)
    (folder / "d-self").symlink_to("d-self")
    (tmp_path / "events" / "2026" / "01" / "03").symlink_to("02")
    os.mkfifo(folder / "e-fifo.ndjson")
    (Path(os.fsdecode(os.fsencode(folder) + b"/f-\xff.ndjson"))).write_bytes(event(98))
    found = carry(tmp_path, {"good.ndjson": event(0)})
    assert found.body == event(0)
    assert list(found.states) == ["good.ndjson"]
    assert found.alerts == {}


def test_a_link_that_takes_the_place_of_a_listed_file_is_not_followed(tmp_path: Path) -> None:
    """Between the listing and the read, a file or a folder on the way to it becomes a link out of the store."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.ndjson").write_bytes(event(99))
    os.utime(tmp_path / "secret" / "a.ndjson", (1e9, 1e9))
    with Ferry(tmp_path) as ferry:
        for hour in ("03", "04"):
            ferry.put(f"2026/01/02/{hour}/a.ndjson", event(1))
        ferry.open()
        ferry.index()
        day = tmp_path / "events" / "2026" / "01" / "02"
        (day / "03" / "a.ndjson").unlink()
        (day / "03" / "a.ndjson").symlink_to(tmp_path / "secret" / "a.ndjson")
        shutil.rmtree(day / "04")
        (day / "04").symlink_to(tmp_path / "secret")
        with ferry.working() as workers:
            workers["out"].flush()
            assert workers["out"].wait_idle(5)
        assert [cause.partition(":")[0] for cause in ferry.conditions()] == ["file.gone"]
        ferry.index(full=True)
        assert ferry.script().lines() == []
