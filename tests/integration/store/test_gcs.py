"""GCS itself: what the emulator leaves out is asked of a small server that keeps to Google's documentation."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import pytest
from tests.integration.store.conftest import GcsPlace, read

from eventferry.clients.diagnosis import Kind
from eventferry.clients.gcs import GcsOptions, connect
from eventferry.clients.gcs_errors import diagnose
from eventferry.errors import ConfigError, ObjectChanged, ObjectGone, StoreError
from eventferry.installing import command
from eventferry.store import Store, StoreSpec, open_store


@dataclass
class Google:
    """One bucket: start_offset is inclusive, conditions hold, answers name the generation."""

    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    endpoint: str = ""
    page: int = 1000
    status: int = 200  # of every answer
    damage: Callable[[bytes], bytes] = bytes

    def put(self, key: str, content: bytes) -> None:
        self.objects[f"raw/{key}"] = (self.objects.get(f"raw/{key}", (100, b""))[0] + 1, content)

    def store(self, **options: object) -> Store:
        given = {"endpoint": self.endpoint, "anonymous": True, "patience": 0.5, **options}
        return open_store(StoreSpec("gs://bucket/raw", tuple(sorted(given.items()))))

    def list(self, query: dict[str, str]) -> bytes:
        start = query.get("pageToken") or query.get("startOffset", "")
        names = sorted(name for name in self.objects if name >= start and name.startswith(query.get("prefix", "")))
        items = [
            {
                "name": name,
                "generation": str(self.objects[name][0]),
                "size": str(len(self.objects[name][1])),
                "timeCreated": "2026-01-01T00:00:00Z",
                "crc32c": base64.b64encode(google_crc32c.Checksum(self.objects[name][1]).digest()).decode(),
            }
            for name in names[: self.page]
        ]
        more = {"nextPageToken": names[self.page]} if len(names) > self.page else {}
        return json.dumps({"items": items, **more}).encode()


@contextmanager
def google() -> Iterator[Google]:
    made = Google()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            made.requests.append({**query, "path": url.path, "range": self.headers.get("Range", "")})
            if made.status != 200:
                return self.answer(made.status, b'{"error": {"message": "SECRET-HEADER"}}')
            if url.path.endswith("/o"):
                return self.answer(200, made.list(query))
            generation, content = made.objects.get(unquote(url.path.rpartition("/o/")[2]), (0, b""))
            if not generation:
                return self.answer(404, b"No such object")
            if query.get("ifGenerationMatch", str(generation)) != str(generation):
                return self.answer(412, b"conditionNotMet")
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            part = made.damage(content[int(first) : int(last) + 1])
            where = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            return self.answer(206, part, {"Content-Range": where, "X-Goog-Generation": str(generation)})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        made.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def test_a_listing_begins_where_it_is_told_and_repeats_nothing() -> None:
    """Thousands of keys before the start cost no page; the start itself, which Google gives too, is left out."""
    with google() as server:
        for number in range(50):
            server.put(f"2026/01/01/{number:03}", b"x")
        for key in ("2026/01/08/a", "2026/01/08/b", "2026/01/08/folder/"):
            server.put(key, b"x")
        server.page = 10
        store = server.store()
        assert [found.key for found in store.list("2026/01/08/a")] == ["2026/01/08/b"]
        assert [request["startOffset"] for request in server.requests] == ["raw/2026/01/08/a"]
        assert len(list(store.list())) == 52


@pytest.mark.usefixtures("small_ranges")
def test_every_request_for_bytes_is_pinned() -> None:
    """Each range of a large object asks for the listed generation, and nothing else is asked."""
    with google() as server:
        server.put("big", bytes(range(256)) * 1000)
        [found] = server.store().list()
        server.requests.clear()
        assert read(server.store(), found) == bytes(range(256)) * 1000
        assert len(server.requests) == 4
        assert {request["ifGenerationMatch"] for request in server.requests} == {"101"}
        assert server.requests[1]["range"].startswith("bytes=65537-")


def test_a_small_object_costs_one_request() -> None:
    """Opening asks nothing that the listing said."""
    with google() as server:
        server.put("small", b"x" * 1000)
        [found] = server.store().list()
        server.requests.clear()
        assert read(server.store(), found) == b"x" * 1000
        assert len(server.requests) == 1


@pytest.mark.usefixtures("small_ranges")
def test_a_generation_that_is_replaced_or_removed_is_noticed_by_the_server() -> None:
    """Before the first byte and between two ranges, whatever the length."""
    with google() as server:
        server.put("f", b"a" * 200_000)
        [found] = server.store().list()
        reader = server.store().open(found.key, found.version)
        assert reader.read(10) == b"a" * 10
        server.put("f", b"b" * 200_000)
        with pytest.raises(ObjectChanged, match="gs://bucket/raw/f: changed since it was listed"):
            while reader.read(65536):
                pass
        with pytest.raises(ObjectChanged):
            read(server.store(), found)
        server.objects.clear()
        with pytest.raises(ObjectGone, match="gs://bucket/raw/f: no longer there"):
            read(server.store(), found)


def test_bytes_that_were_damaged_on_the_way_are_not_taken() -> None:
    """What was read from first to last has the checksum that was listed, or the read fails, to be tried again."""
    with google() as server:
        server.put("f", b"a" * 1000)
        [found] = server.store().list()
        server.damage = lambda part: b"b" + part[1:]
        with pytest.raises(StoreError, match="do not have its checksum; it is tried again later"):
            read(server.store(), found)


def test_stored_bytes_are_read_whatever_their_encoding_says(gcs_place: GcsPlace) -> None:
    """An object that was uploaded with Content-Encoding: gzip comes as it lies there."""
    import gzip

    packed = gzip.compress(b'{"a": 1}\n' * 100)
    blob = gcs_place.bucket.blob("raw/f.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    assert gcs_place.read(gcs_place.find("f.gz")) == packed


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, Kind.PERSON, "HTTP 400; the store refuses the request; check the bucket's name, and set user_project"),
        (401, Kind.PERSON, "no credentials found; set credentials_file"),
        (403, Kind.PERSON, "HTTP 403; grant these credentials storage.objects.list and storage.objects.get"),
        (429, Kind.LATER, "HTTP 429; the store asks for fewer requests"),
        (503, Kind.LATER, "HTTP 503; the store has a fault of its own"),
    ],
)
def test_what_goes_wrong_is_told_with_its_remedy(status: int, kind: Kind, says: str) -> None:
    """Each answer has its own sentence, without the server's own text, and says whether a person must act."""
    with google() as server:
        server.status = status
        with pytest.raises(StoreError) as raised:
            list(server.store().list())
    assert says in str(raised.value)
    assert str(raised.value).startswith("listing gs://bucket/raw: ")
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is not None
    assert diagnose(raised.value.__cause__, "x").kind is kind


def test_a_server_that_cannot_be_reached_is_told_so() -> None:
    """Nothing can have been taken then."""
    spec = StoreSpec("gs://b", (("anonymous", True), ("endpoint", "http://127.0.0.1:1"), ("patience", 0.1)))
    with pytest.raises(StoreError, match="the store cannot be reached; check endpoint, DNS and the network") as raised:
        list(open_store(spec).list())
    assert raised.value.__cause__ is not None
    assert diagnose(raised.value.__cause__, "x").kind is Kind.UNREACHABLE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file of credentials; mend credentials_file"),
        ("{}", "not Google's JSON of a key or an identity"),
        ('{"type": "service_account", "private_key": "SECRET"}', "not Google's JSON of a key or an identity"),
    ],
)
def test_bad_files_of_credentials_are_told(tmp_path: Path, content: str | None, says: str) -> None:
    """A missing file, one of another kind, a broken key: none of them shows what is in it."""
    if content is not None:
        (tmp_path / "key.json").write_text(content)
    with pytest.raises(StoreError, match=says) as raised:
        list(open_store(StoreSpec("gs://b", (("credentials_file", tmp_path / "key.json"),))).list())
    assert "SECRET" not in str(raised.value)


def test_requesters_pay_with_their_own_project() -> None:
    """user_project goes with listings and reads."""
    with google() as server:
        server.put("f", b"x")
        store = server.store(user_project="payer")
        [found] = store.list()
        assert read(store, found) == b"x"
        assert [request["userProject"] for request in server.requests] == ["payer", "payer"]


def test_mistakes_in_the_url_or_options_are_config_errors() -> None:
    """They are found before anything is asked of the network, and credentials in a URL are not repeated."""
    with pytest.raises(ConfigError, match="name it in credentials_file") as raised:
        open_store(StoreSpec("gs://user:SECRET@bucket/x"))
    assert "SECRET" not in str(raised.value)
    for url in ("gs://", "gs:///x", "gs://b/x?y"):
        with pytest.raises(ConfigError, match="is not the url of a bucket"):
            open_store(StoreSpec(url))
    with pytest.raises(ConfigError, match="unknown options of a gcs store: key"):
        open_store(StoreSpec("gs://b", (("key", "x"),)))
    with pytest.raises(ConfigError, match="credentials_file or is anonymous, not both"):
        open_store(StoreSpec("gs://b", (("anonymous", True), ("credentials_file", "/x"))))


def test_a_client_is_made_once(gcs_place: GcsPlace) -> None:
    """Connections are shared by all who read with the same options."""
    options = GcsOptions.of(gcs_place.spec.options)
    assert connect(options) is connect(GcsOptions.of(gcs_place.spec.options))


def test_without_the_package_the_install_command_is_named() -> None:
    """A missing extra says which command installs it."""
    code = (
        "import sys; sys.modules['google.cloud.storage'] = None\n"
        "from eventferry.store import StoreSpec, open_store\n"
        "try: open_store(StoreSpec('gs://bucket'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ConfigError gcs stores need google-cloud-storage: {command('eventferry[gcs]')}\n"
