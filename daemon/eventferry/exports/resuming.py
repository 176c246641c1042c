"""Whether an attempt at an export can go on from the one before: by its plan, which holds for some settings only."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from eventferry.exports.durable import sync_folder
from eventferry.exports.sources import Readable

_NAME = "sources.json"


def note_sources(work: Path, sources: Mapping[int, Readable]) -> None:
    """Write down, durably, how the sources are read; before the plan that is made by it. Raises OSError."""
    part = work / f".{_NAME}.part"
    with part.open("w") as out:
        json.dump({str(id_): each.reading for id_, each in sources.items()}, out)
        out.flush()
        os.fsync(out.fileno())
    part.rename(work / _NAME)
    sync_folder(work)


def reads_the_same(work: Path, sources: Mapping[int, Readable]) -> bool:
    """Whether the sources are still read as it was written down.

    One that is gone is no other reading: its events are in the plan, and what goes by that says that they are missing;
    a new plan would leave them out without a word.
    """
    try:
        noted = json.loads((work / _NAME).read_bytes())
    except (OSError, ValueError):
        return False
    now = {str(id_): each.reading for id_, each in sources.items()}
    return not noted.keys() <= now.keys() or all(now[id_] == reading for id_, reading in noted.items())
