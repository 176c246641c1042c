"""A sink that somebody mends in its configuration goes on with the next run, whatever its `probe` says."""

from pathlib import Path

from tests.builders import HOUR, Ferry, events
from typer.testing import CliRunner

from eventferry.cli.program import program


def test_a_missing_table_is_mended_by_create(tmp_path: Path) -> None:
    """`once` holds the sink, and again while nothing was changed; after the edit it delivers."""
    ferry = Ferry(tmp_path, sinks=())
    ferry.sinks["lake"] = {"type": "delta", "url": str(tmp_path / "lake"), "probe": "1h", "batch": {"max_wait": "0s"}}
    ferry.put(f"{HOUR}/a.ndjson", events(3))
    for create, code in ((False, 1), (False, 1), (True, 0)):
        ferry.sinks["lake"]["create"] = create
        ferry.save()
        done = CliRunner().invoke(program, ["--config", str(ferry.path), "once"])
        assert done.exit_code == code, done.output
    with ferry.open():
        assert (ferry.sink("lake").state, ferry.book("lake").delivered) == ("active", 3)
