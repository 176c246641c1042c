"""Expiry: files go when their time is over, and those that belong to nobody; nothing else in the folder is touched."""

import contextlib
import threading
import uuid
from collections.abc import Iterator

import freezegun
import pytest
from tests.desks import ANA, ask, begin, desk_at, finish, look

from eventferry.exports import folders, requests
from eventferry.exports.desk import Desk
from eventferry.exports.expiry import expire
from eventferry.exports.refusals import Gone

NOON = "2026-03-01 12:00:00"


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with freezegun.freeze_time(NOON), desk_at(tmp_path, exports={"retention": "2h"}) as desk:
        yield desk


def names(desk: Desk) -> set[str]:
    return {path.name for path in desk.folder.iterdir()}


def test_files_are_kept_for_the_retention_and_not_longer(desk):
    """The export stays, expired; whoever asks for its files is told that they are gone."""
    row = finish(desk, ask(desk))
    assert row.expires_ms == row.finished_ms + 2 * 3_600_000
    with freezegun.freeze_time(NOON) as time:
        time.tick(2 * 3600 - 1)
        assert expire(desk, contextlib.nullcontext()) == 0
        assert names(desk) == {row.id}
        time.tick(1)
        assert expire(desk, contextlib.nullcontext()) == 1
    assert names(desk) == set()
    assert look(desk, row).state == "expired"
    assert requests.files(desk, ANA, row.id) == []
    with pytest.raises(Gone, match="have expired"):
        requests.open_linked_file(desk, row.id, "events.csv")


def test_what_a_death_left_behind_is_swept(desk):
    """Work of exports that have ended, files of those that are not complete, half-removed folders; not the rest."""
    running, done, waiting, over = begin(desk, ask(desk)), finish(desk, ask(desk)), ask(desk), ask(desk)
    requests.cancel(desk, ANA, over.id)
    deleted = finish(desk, ask(desk))
    requests.delete(desk, ANA, deleted.id)
    keep = {done.id, f".work-{running.id}", running.id, f".work-{waiting.id}", "lost+found", "notes.txt", ".work-mine"}
    gone = {f".work-{over.id}", over.id, deleted.id, str(uuid.uuid4()), f".work-{uuid.uuid4()}", ".gone-x-1"}
    for name in keep | gone:
        (desk.folder / name).mkdir(exist_ok=True)
        (desk.folder / name / "file").touch()
    expire(desk, contextlib.nullcontext())
    assert names(desk) == keep


def test_nothing_begins_while_folders_are_swept(desk):
    """An export that begins between the look at the disk and the look at the ledger would lose its work."""
    finish(desk, ask(desk))
    beginning, swept = threading.Lock(), threading.Event()

    def sweep() -> None:
        expire(desk, beginning)
        swept.set()

    with beginning:
        threading.Thread(target=sweep, daemon=True).start()
        row = begin(desk, ask(desk))
        (desk.folder / f".work-{row.id}").mkdir()
        assert not swept.is_set()
    assert swept.wait(10)
    assert f".work-{row.id}" in names(desk)


def test_without_any_export_there_is_nothing_to_sweep(desk):
    """The folder is made by the first export."""
    assert expire(desk, contextlib.nullcontext()) == 0
    assert not desk.folder.exists()


def test_a_folder_is_out_of_sight_before_its_first_file_goes(desk, monkeypatch):
    """Whoever looks sees all of it or nothing; removing it twice is harmless."""
    row = finish(desk, ask(desk), a=b"1", b=b"2")
    seen = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: seen.append((path.name, names(desk))))
    assert folders.remove(desk.folder, row.id)
    [(away, left)] = seen
    assert left == {away}
    assert away.startswith(f".gone-{row.id}-")
    assert not folders.remove(desk.folder, row.id)
