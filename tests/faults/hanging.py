"""A sink that is one function; it hangs while a file named `hang` lies in the stage's folder."""

import os
import time
from pathlib import Path

FOLDER = Path(os.environ.get("FAULTS_FOLDER", "."))


def take(ndjson: str) -> None:
    """Append the events to `taken.ndjson`; whoever hangs answers much too late, as slow programs do."""
    while (FOLDER / "hang").exists():
        time.sleep(0.05)
    with (FOLDER / "taken.ndjson").open("a") as taken:
        taken.write(ndjson)
