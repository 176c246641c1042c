"""What every store promises, asked of a directory, of two S3-compatible servers and of emulators of GCS and Azure."""

import itertools
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.store.conftest import Place, read
from tests.network import cutting_line

from eventferry.errors import ObjectChanged, ObjectGone, StoreError
from eventferry.store import StoreSpec, open_store

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
    odd = ["what?versionId=7", "sp ace/+plus", "per%2fcent", "ha#sh/a:b@c", "emoji-🎈.gz"]
    if place.kind != "azure":  # there it is a slash
        odd.append("back\\slash")
    for number, key in enumerate(odd):
        place.put(key, f"content {number}\n".encode() * 1000)
    found = {item.key: item for item in place.store.list()}
    assert sorted(found) == sorted(odd)
    for number, key in enumerate(odd):
        content = f"content {number}\n".encode() * 1000
        assert place.read(found[key]) == content
        assert found[key].size == len(content)
        if place.kind in ("directory", "s3"):
            assert found[key].modified_ms == 1_790_000_000_000 + number * 1000
        else:
            assert abs(found[key].modified_ms - time.time() * 1000) < 60_000


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
    assert place.store.list_calls <= 6


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
    """A store that is not there is never mistaken for an empty one, neither at listing nor at check."""
    place.vanish()
    for ask in (place.keys, place.store.check):
        with pytest.raises(StoreError, match=r"no such (directory|bucket|container).*mend the source's url"):
            ask()


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        ("s3", {"secret_key": "SECRET-0815"}, "SignatureDoesNotMatch; the secret does not belong to the access key"),
        ("swift", {"secret_key": "SECRET-0815"}, "SignatureDoesNotMatch; the secret does not belong to the access key"),
        pytest.param(
            "azure", {"account_key": "U0VDUkVULTA4MTU="}, "mend account_key or sas_token", marks=pytest.mark.servers
        ),
    ],
)
def test_wrong_credentials_are_told_and_not_shown(
    request: pytest.FixtureRequest, kind: str, wrong: dict[str, object], says: str
) -> None:
    """Listing and reading name the mistake; the emulator of GCS lets everybody in."""
    place: Place = request.getfixturevalue(f"{kind}_place")
    place.put("f")
    found, store = place.find("f"), open_store(place.changed(attempts=1, **wrong))
    for ask in (lambda: list(store.list()), lambda: read(store, found)):
        with pytest.raises(StoreError) as raised:
            ask()
        assert says in str(raised.value)
        assert not any(str(secret) in str(raised.value) for secret in wrong.values())


def test_a_listing_goes_on_page_after_page(remote_place: Place, small_pages: Callable[[int], None]) -> None:
    """A prefix of more objects than a page is listed whole, in order, and from anywhere."""
    keys = [f"2026/01/0{day}/{number}" for day in range(1, 4) for number in range(5)]
    for key in keys:
        remote_place.put(key)
    small_pages(4)
    assert remote_place.keys() == keys
    assert remote_place.store.list_calls <= 5
    assert remote_place.keys("2026/01/02/1") == keys[7:]
    assert remote_place.keys("2026/01/02/1", "2026/01/02/") == keys[7:10]


def test_an_empty_object_is_pinned_too(place: Place) -> None:
    """Zero bytes of another version, or of an object that is gone, are not taken for those that were listed."""
    place.put("empty.ndjson", b"")
    found = place.find("empty.ndjson")
    place.put("empty.ndjson", b"now longer")
    with pytest.raises(ObjectChanged):
        place.read(found)
    place.remove("empty.ndjson")
    with pytest.raises(ObjectGone):
        place.read(found)


@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_changes_in_the_middle_of_a_read_is_not_mixed(place: Place) -> None:
    """What was begun ends with the bytes of its version, or is refused; equal length does not deceive."""
    place.put("big", b"a" * 1_000_000)
    found = place.find("big")
    reader = place.store.open(found.key, found.version)
    first = reader.read(1000)
    place.remove("big")
    place.put("big", b"b" * 1_000_000)
    try:
        rest = b"".join(iter(lambda: reader.read(65536), b""))
    except (ObjectChanged, ObjectGone):
        rest = None
    finally:
        reader.close()
    assert first == b"a" * 1000
    assert rest in (None, b"a" * 999_000)


@pytest.mark.usefixtures("small_ranges")
def test_a_broken_download_goes_on_where_it_broke(remote_place: Place) -> None:
    """A connection that dies in the middle of an object is resumed, and the bytes are whole."""
    content = bytes(range(256)) * 4096
    remote_place.put("big", content)
    found = remote_place.find("big")
    with cutting_line(_address_of(remote_place), after=300_000) as line:
        assert read(open_store(_through(remote_place, line.endpoint)), found) == content
        assert len(line.cuts) == 1


@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_changes_during_a_broken_download_is_not_mixed(remote_place: Place) -> None:
    """The resumed request is pinned too: bytes of two versions never meet in one read."""
    remote_place.put("big", b"a" * 1_000_000)
    found = remote_place.find("big")
    with cutting_line(_address_of(remote_place), after=300_000) as line:
        reader = open_store(_through(remote_place, line.endpoint)).open(found.key, found.version)
        assert reader.read(1000) == b"a" * 1000
        remote_place.remove("big")
        remote_place.put("big", b"b" * 1_000_000)
        with pytest.raises((ObjectChanged, ObjectGone)):
            while reader.read(65536):
                pass
        reader.close()


def test_many_reads_at_once_give_each_its_own_bytes(place: Place) -> None:
    """Sixteen threads of one process read different objects through clients that they share."""
    contents = {f"2026/01/02/{number:02}.ndjson": b'{"n": %d}\n' % number * 20_000 for number in range(16)}
    for key, content in contents.items():
        place.put(key, content)
    listed = list(place.store.list())
    with ThreadPoolExecutor(16) as threads:
        got = list(threads.map(lambda found: read(open_store(place.spec), found), listed * 2))
    assert got == [contents[found.key] for found in listed] * 2


def test_closing_twice_is_fine(place: Place) -> None:
    """A reader and a store that were closed can be closed again; the store can be opened anew."""
    place.put("f", b"bytes")
    found = place.find("f")
    reader = place.store.open(found.key, found.version)
    assert reader.read(2) == b"by"
    reader.verify()
    for _ in range(2):
        reader.close()
        place.store.close()
    assert read(open_store(place.spec), found) == b"bytes"


_ENDPOINTS = {"s3": "endpoint", "swift": "endpoint", "gcs": "endpoint", "azure": "account_url"}


def _address_of(place: Place) -> str:
    return str(dict(place.spec.options)[_ENDPOINTS[place.kind]])


def _through(place: Place, line: str) -> StoreSpec:
    """The same place, reached by a line."""
    _, _, path = _address_of(place).removeprefix("http://").partition("/")
    return place.changed(**{_ENDPOINTS[place.kind]: f"{line}/{path}".rstrip("/")})
