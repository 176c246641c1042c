"""What every store promises, asked of a real directory and of a real S3-compatible server."""

import itertools
import pickle

import pytest
from tests.integration.store.conftest import Place

from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store import open_store

KEYS = [
    "a.b",
    "a-b",
    "a/b",
    "a/b.x/c",
    "a/b-x",
    "a0",
    "b/é/ü.gz",
    "b/z",
    "日/本",
    "2026/01/02/03/f.gz",
    "a b/c+d&e%20=f",
]


def test_keys_come_in_the_order_of_their_bytes(place: Place) -> None:
    """A listing is ordered by the UTF-8 bytes of whole keys, however directories and files mix."""
    for key in KEYS:
        place.put(key)
    assert place.keys() == sorted(KEYS, key=str.encode)


def test_a_listing_starts_strictly_after_any_text(place: Place) -> None:
    """start_after needs not be an existing key, and the key itself is not repeated."""
    for key in KEYS:
        place.put(key)
    for after in [*KEYS, "a", "a/", "a/b", "a/b.", "a/b.x/", "b/é", "zz", "2026/01/02"]:
        assert place.keys(after) == sorted(k for k in KEYS if k > after), after


def test_a_prefix_limits_a_listing(place: Place) -> None:
    """A prefix is plain text, not only whole directories."""
    for key in KEYS:
        place.put(key)
    for prefix in ["a", "a/", "a/b", "b/", "b/é", "2026/01/0", "nothing/"]:
        assert place.keys(prefix=prefix) == sorted(k for k in KEYS if k.startswith(prefix)), prefix
    assert place.keys("a/b", "a/b") == ["a/b-x", "a/b.x/c"]


def test_an_object_reads_back_byte_for_byte(place: Place) -> None:
    """Whatever its key looks like, an object's bytes are those that were stored, and sizes and times are right."""
    odd = ["what?versionId=7", "sp ace/+plus", "per%2fcent", "ha#sh/a:b@c", "emoji-🎈.gz", "back\\slash"]
    for number, key in enumerate(odd):
        place.put(key, f"content {number}\n".encode() * 1000)
    found = {item.key: item for item in place.store.list()}
    assert sorted(found) == sorted(odd)
    for number, key in enumerate(odd):
        content = f"content {number}\n".encode() * 1000
        assert place.read(found[key]) == content
        assert found[key].size == len(content)
        assert found[key].modified_ms == 1_790_000_000_000 + number * 1000


def test_an_empty_object_is_a_fine_object(place: Place) -> None:
    """Zero bytes are read as zero bytes."""
    place.put("empty.ndjson", b"")
    assert place.read(place.find("empty.ndjson")) == b""


def test_a_version_stands_for_bytes(place: Place) -> None:
    """The version stays while nobody writes and changes with the bytes; the old one is refused, not read."""
    place.put("f", b"one\n")
    first = place.find("f")
    assert place.find("f") == first
    place.put("f", b"two\n")
    second = place.find("f")
    assert second.version != first.version
    with pytest.raises(ObjectChanged, match="f: changed since it was listed"):
        place.read(first)
    assert place.read(second) == b"two\n"


def test_a_removed_object_is_gone(place: Place) -> None:
    """Opening what is no longer there says so."""
    place.put("d/f")
    found = place.find("d/f")
    place.remove("d/f")
    with pytest.raises(ObjectGone, match="d/f: no longer there"):
        place.read(found)
    assert place.keys() == []


def test_a_listing_is_lazy(place: Place) -> None:
    """Stopping after some objects has asked for no more than those needed."""
    for day, number in itertools.product(range(1, 10), range(3)):
        place.put(f"2026/01/0{day}/{number}")
    listing = place.store.list()
    taken = [found.key for found in itertools.islice(listing, 4)]
    listing.close()  # type: ignore[attr-defined]
    assert taken == ["2026/01/01/0", "2026/01/01/1", "2026/01/01/2", "2026/01/02/0"]
    assert place.store.list_calls <= 5
    place.store.list_calls = 0
    assert len(place.keys("2026/01/08")) == 6
    assert place.store.list_calls <= 5


def test_a_store_opens_again_from_its_pickled_spec(place: Place) -> None:
    """A worker process can open the store from what was sent to it, and no secret shows on the way."""
    place.put("f", b"bytes")
    assert "SECRET" not in repr(place.spec) + repr(place.store) + place.store.root
    assert hash(place.spec) == hash(pickle.loads(pickle.dumps(place.spec)))
    store = open_store(pickle.loads(pickle.dumps(place.spec)))
    assert [found.key for found in store.list()] == ["f"]


def test_check_says_what_was_proved(place: Place) -> None:
    """check lists, then reads the first object; an empty store passes."""
    assert "holds no" in place.store.check()[-1]
    place.put("f")
    assert place.store.check()[-2:] == (*place.store.check()[-2:-1], "f can be read")


def test_a_missing_root_is_an_error_with_a_remedy(place: Place) -> None:
    """A store that is not there is never mistaken for an empty one."""
    import shutil

    shutil.rmtree(place.folder.parent if place.kind == "s3" else place.folder)
    with pytest.raises(StoreError, match=r"no such (directory|bucket).*mend the source's url"):
        place.keys()
