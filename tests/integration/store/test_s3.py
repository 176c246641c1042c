"""S3 itself: paging, what it costs, what goes wrong and what the operator reads then."""

import datetime as dt
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from tests.integration.store.conftest import Place
from tests.servers import s3_server

from eventferry.clients.s3 import S3Options
from eventferry.errors import ConfigError, ObjectChanged, StoreError
from eventferry.installing import command
from eventferry.store import StoreSpec, open_store
from eventferry.store.layout import Layout, skip_scan
from eventferry.store.opening import open_stream
from eventferry.store.s3 import S3Store, _PinnedClient


def test_listing_goes_on_page_after_page(s3_place: Place) -> None:
    """A prefix of more objects than a page is listed whole, one request per thousand."""
    keys = [f"2026/01/{day:02}/{number:03}" for day in range(1, 22) for number in range(100)]
    for key in keys:
        s3_place.put(key)
    assert s3_place.keys() == keys
    assert s3_place.store.list_calls == 3


def test_a_poll_of_an_old_prefix_costs_one_page_and_what_is_new(s3_place: Place) -> None:
    """Thousands of keys below the floor are jumped over, not paged through."""
    for number in range(3500):
        s3_place.put(f"2026/01/01/{number:05}")
    s3_place.put("2026/01/09/late")
    s3_place.put("errors/2026/x")
    layout = Layout()
    floor = layout.floor("2026/01/09/late", dt.datetime(2026, 1, 8, tzinfo=dt.UTC))
    found = [item.key for item, _ in skip_scan(s3_place.store.list, layout, lambda partition: floor)]
    assert found == ["2026/01/09/late", "errors/2026/x"]
    assert s3_place.store.list_calls == 2


def test_a_careless_server_is_filtered() -> None:
    """Placeholders of folders, other prefixes and keys before the start are left out, whatever the server sends."""
    keys = ["other/x", "raw/", "raw/a", "raw/b/", "raw/b/1", "raw/b/2", "raw/c"]
    with _listing_server(keys) as endpoint:
        store = open_store(StoreSpec("s3://bucket/raw", (("anonymous", True), ("endpoint", endpoint))))
        assert [found.key for found in store.list()] == ["a", "b/1", "b/2", "c"]
        assert [found.key for found in store.list("b/1")] == ["b/2", "c"]
        assert [found.key for found in store.list("b/1", "b/")] == ["b/2"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secret_key": "SECRETWRONG"}, "SignatureDoesNotMatch; the secret does not belong to the access key"),
        ({"access_key": "AKIDWRONG"}, "InvalidAccessKeyId; the store does not know this access key"),
        ({"endpoint": "http://127.0.0.1:1"}, "the endpoint http://127.0.0.1:1 cannot be reached; check endpoint"),
        ({"profile": "nobody", "access_key": None, "secret_key": None}, "there is no such profile"),
    ],
)
def test_what_goes_wrong_is_told_with_its_remedy(s3_place: Place, options: dict[str, object], says: str) -> None:
    """Each mistake has its own sentence, and none of them shows a secret."""
    given = {**dict(s3_place.spec.options), "attempts": 1, **options}
    store = open_store(StoreSpec(s3_place.spec.url, tuple(sorted(given.items()))))
    with pytest.raises(StoreError) as raised:
        list(store.list())
    assert says in str(raised.value)
    assert str(raised.value).startswith("listing s3://bucket-") or "connecting to" in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_an_endpoint_that_never_answers_is_given_up(s3_place: Place) -> None:
    """A silent server costs the read timeout, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}", "read_timeout": 0.2, "attempts": 1}
        spec = StoreSpec(s3_place.spec.url, tuple(sorted({**dict(s3_place.spec.options), **given}.items())))
        with pytest.raises(StoreError, match="stopped answering"):
            list(open_store(spec).list())


def test_a_server_that_ignores_conditions_is_still_not_believed() -> None:
    """An answer with another ETag or size than asked for is ObjectChanged, whatever the status was."""

    class Careless:
        def get_object(self, **request: object) -> dict[str, object]:
            import io

            assert request["IfMatch"] == '"old"'
            return {"ETag": '"new"', "ContentLength": 3, "Body": io.BytesIO(b"new")}

    with pytest.raises(ObjectChanged):
        _PinnedClient(Careless(), "old", 3, {}).get_object(Bucket="b", Key="k")


def test_compressed_objects_stream_from_s3(s3_place: Place) -> None:
    """Opening, decompression and verification work over the network as they do on disk."""
    import gzip

    content = b'{"a":1}\n' * 100_000
    s3_place.put("f.gz", gzip.compress(content))
    found = s3_place.find("f.gz")
    with open_stream(s3_place.store, found.key, found.version) as stream:
        assert stream.read() == content


def test_mistakes_in_the_url_or_options_are_config_errors() -> None:
    """They are found before anything is asked of the network, and credentials in a URL are not repeated."""
    with pytest.raises(ConfigError, match="move them to access_key") as raised:
        open_store(StoreSpec("s3://AKID:SECRET@bucket/x"))
    assert "SECRET" not in str(raised.value)
    for url in ("s3://", "s3:///x", "s3://b/x?y", "http://b/x", "file://host/x"):
        with pytest.raises(ConfigError):
            open_store(StoreSpec(url))
    with pytest.raises(ConfigError, match="unknown options of an s3 store: sekret"):
        open_store(StoreSpec("s3://b", (("sekret", "x"),)))
    with pytest.raises(ConfigError, match="set both or neither"):
        open_store(StoreSpec("s3://b", (("access_key", "x"),)))


def test_without_boto3_the_install_command_is_named() -> None:
    """A missing extra says which command installs it."""
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from eventferry.store import StoreSpec, open_store\n"
        "try: open_store(StoreSpec('s3://bucket'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ConfigError s3 stores need boto3: {command('eventferry[s3]')}\n"


def test_the_prefix_of_a_url_is_a_folder() -> None:
    """`s3://b/raw` and `s3://b/raw/` are the same place, with the same name."""
    for url in ("s3://bucket/raw", "s3://bucket/raw/"):
        assert S3Store.from_url(url, S3Options()).root == "s3://bucket/raw"


def test_an_own_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    """ca_file makes a private certificate good; without it the message says so."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "data" / "bucket").mkdir(parents=True)
    (tmp_path / "data" / "bucket" / "f").write_bytes(b"x")
    pem = str(tmp_path / "server.pem")
    with s3_server(tmp_path / "data", "--cert", pem, "--key", pem) as server:
        assert server.endpoint.startswith("https://")
        trusting = server.options(ca_file=tmp_path / "ca.pem")
        assert [found.key for found in open_store(StoreSpec("s3://bucket", trusting)).list()] == ["f"]
        with pytest.raises(StoreError, match="not trusted; set ca_file"):
            list(open_store(StoreSpec("s3://bucket", server.options(attempts=1))).list())


@contextmanager
def _listing_server(keys: list[str]) -> Iterator[str]:
    """Answers every listing with all keys."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
        for key in keys
    )
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
