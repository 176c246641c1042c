"""A directory as a store: what a file system can do to it."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.store.conftest import Place

from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store import StoreSpec, open_store
from eventferry.store.directory import DirectoryStore


def test_links_lead_nowhere(directory_place: Place, tmp_path: Path) -> None:
    """Symlinks to files and directories, inside or outside of the root, are neither listed nor opened."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    directory_place.put("real/f")
    (directory_place.folder / "dir-link").symlink_to(outside)
    (directory_place.folder / "file-link").symlink_to(outside / "secret")
    (directory_place.folder / "real" / "loop").symlink_to("..")
    assert directory_place.keys() == ["real/f"]
    version = directory_place.find("real/f").version
    for key in ("dir-link/secret", "file-link", "real/loop/real/f"):
        with pytest.raises(ObjectGone):
            directory_place.store.open(key, version)


def test_only_regular_files_are_objects(directory_place: Place) -> None:
    """FIFOs and sockets are neither listed nor waited for."""
    os.mkfifo(directory_place.folder / "pipe")
    directory_place.put("f")
    assert directory_place.keys() == ["f"]
    with pytest.raises(ObjectGone):
        directory_place.store.open("pipe", "1-1-1")


@pytest.mark.parametrize("key", ["../f", "a/../f", "/etc/passwd", "a//f", "./f", "", "a/", "nul\0"])
def test_keys_that_try_to_leave_are_refused(directory_place: Place, key: str) -> None:
    """A key is a way down from the root, nothing else."""
    directory_place.put("f")
    with pytest.raises(StoreError, match="is refused"):
        directory_place.store.open(key, "1-1-1")


def test_names_that_are_not_utf8_are_skipped_and_counted(directory_place: Place) -> None:
    """They have no key; how many there are can be said."""
    directory_place.put("good")
    folder = os.fsencode(directory_place.folder)
    Path(os.fsdecode(folder + b"/bad-\xff")).write_bytes(b"")
    os.mkdir(folder + b"/dir-\xfe")
    assert directory_place.keys() == ["good"]
    assert directory_place.store.skipped_names == 2


def test_names_of_all_sorts_survive(directory_place: Place) -> None:
    """Line ends, tabs and trailing blanks in names belong to the key."""
    for key in ("line\nend", "tab\there", "blank ", "-dash", "~"):
        directory_place.put(key, key.encode())
    for found in directory_place.store.list():
        assert directory_place.read(found) == found.key.encode()
    assert len(directory_place.keys()) == 5


def test_a_file_that_changes_while_it_is_read_is_noticed(directory_place: Place) -> None:
    """Bytes of two versions never pass as one: appended, truncated or rewritten in place."""
    for change in ("append", "truncate", "rewrite"):
        directory_place.put(change, b"x" * 300_000)
        found = directory_place.find(change)
        reader = directory_place.store.open(found.key, found.version)
        assert reader.read(100_000) == b"x" * 100_000
        with open(directory_place.folder / change, "r+b") as file:
            if change == "truncate":
                file.truncate(150_000)
            file.seek(0, os.SEEK_END if change == "append" else os.SEEK_SET)
            file.write(b"y")
        with pytest.raises(ObjectChanged, match="changed while it was read"):
            reader.verify()
        with pytest.raises(ObjectChanged, match="changed while it was read"):
            while reader.read(65536):
                pass
        reader.close()


def test_a_file_replaced_while_it_is_read_is_read_on(directory_place: Place) -> None:
    """A rename over the file leaves the version that was opened whole."""
    directory_place.put("f", b"old" * 100_000)
    found = directory_place.find("f")
    reader = directory_place.store.open(found.key, found.version)
    directory_place.put("new", b"new")
    os.replace(directory_place.folder / "new", directory_place.folder / "f")
    assert b"".join(iter(lambda: reader.read(65536), b"")) == b"old" * 100_000
    reader.close()


def test_what_vanishes_during_a_listing_is_left_out(directory_place: Place) -> None:
    """A file or directory removed after its name was seen costs nothing."""
    for key in ("a", "b", "c/f", "d"):
        directory_place.put(key)
    listing = directory_place.store.list()
    assert next(listing).key == "a"
    directory_place.remove("b")
    directory_place.remove("c/f")
    (directory_place.folder / "c").rmdir()
    assert [found.key for found in listing] == ["d"]


def test_whole_directories_before_the_start_are_not_scanned(directory_place: Place) -> None:
    """A listing from the last day on costs the directories on the way to it."""
    for month in range(1, 13):
        for day in range(1, 29):
            directory_place.put(f"2026/{month:02}/{day:02}/f")
    assert directory_place.keys("2026/12/27") == ["2026/12/27/f", "2026/12/28/f"]
    assert directory_place.store.list_calls == 5
    directory_place.store.list_calls = 0
    assert directory_place.keys(prefix="2026/05/0") == [f"2026/05/0{day}/f" for day in range(1, 10)]
    assert directory_place.store.list_calls == 12


def test_no_descriptor_is_left_open(directory_place: Place) -> None:
    """Listings given up half way and refused opens hold nothing."""
    for key in ("a/b/c/f", "a/b/d/f", "g"):
        directory_place.put(key)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        listing = directory_place.store.list()
        next(listing)
        listing.close()  # type: ignore[attr-defined]
        for key in ("a/b/none", "none/f", "a", "g/f"):
            with pytest.raises(ObjectGone):
                directory_place.store.open(key, "1-1-1")
        with pytest.raises(ObjectChanged):
            directory_place.store.open("g", "1-1-1")
        directory_place.read(directory_place.find("g"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_what_may_not_be_read_is_told_with_its_remedy() -> None:
    """Permission errors name the path and what to do, for files and directories; lost+found is passed over."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o755)  # pytest's own folders are closed to the other user
        root = Path(temporary) / "events"
        for folder in ("closed", "open", "lost+found"):
            (root / folder).mkdir(parents=True)
        (root / "open" / "f").write_bytes(b"")
        (root / "open" / "f").chmod(0)
        (root / "lost+found").chmod(0o700)
        said = _as_nobody(root)
        assert said == ["open/f", f"{root}/open/f: permission denied; give the service's user read access"]
        (root / "closed").chmod(0)
        assert _as_nobody(root)[0].startswith(f"{root}/closed: permission denied; give the service's user read access")


def test_a_hidden_root_names_the_switch_of_the_sandbox() -> None:
    """Under ProtectHome= a home is empty; the message says which drop-in opens it."""
    with pytest.raises(StoreError, match="ProtectHome=read-only"):
        list(DirectoryStore("/home/no-such-user/events").list())
    with pytest.raises(StoreError, match="ReadOnlyPaths=/no-such-place"):
        list(DirectoryStore("/no-such-place").list())


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A source's url names a directory."""
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreError, match="is not a directory"):
        list(DirectoryStore(tmp_path / "f").list())


def test_a_path_and_its_url_are_the_same_store(tmp_path: Path) -> None:
    """`/x y` and `file:///x%20y` have the same name."""
    folder = tmp_path / "x y"
    folder.mkdir()
    assert open_store(StoreSpec(str(folder))).root == open_store(StoreSpec(folder.as_uri())).root == folder.as_uri()


names = st.sampled_from(["a", "a-", "a.b", "a0", "é", "A", "~", "日", "\x7f", "a b"])
keys = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.sets(keys, max_size=12),
    st.one_of(st.none(), keys, st.text("a/-.0", max_size=4)),
    st.sampled_from(["", "a", "a/", "a-", "é/"]),
)
def test_any_tree_lists_as_sorted_keys(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[str], after: str | None, prefix: str
) -> None:
    """Order, start and prefix agree with plain comparisons of the keys' bytes."""
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for key in sorted(wanted):
        if any(key.startswith(other + "/") or other.startswith(key + "/") for other in made):
            continue
        made.add(key)
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"")
    expected = sorted((key for key in made if key.startswith(prefix) and key > (after or "")), key=str.encode)
    assert [found.key for found in DirectoryStore(root).list(after, prefix)] == expected


def _as_nobody(root: Path) -> list[str]:
    """What a listing and the opening of what it found say, to a user without rights."""
    said: list[str] = []
    os.setresuid(65534, 65534, 0)
    try:
        store = DirectoryStore(root)
        for found in store.list():
            said.append(found.key)
            store.open(found.key, found.version)
    except StoreError as error:
        said.append(str(error).split(" (")[0])
    finally:
        os.setresuid(0, 0, 0)
    return said


def test_a_bottomless_folder_stalls_nobody(tmp_path: Path) -> None:
    """Folders nested deeper than any layout are passed over and counted; the files beside them are listed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"{}\n")
    (tmp_path / "z").write_bytes(b"{}\n")
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(150):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    store = DirectoryStore(tmp_path)
    assert [found.key for found in store.list()] == ["a/x", "z"]
    assert store.skipped_names == 1
