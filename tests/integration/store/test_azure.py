"""Azure itself: what a poll costs, what goes wrong and what the operator reads then."""

import datetime as dt
import itertools
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest
from tests.azurite_server import KEY
from tests.integration.store.conftest import AzurePlace

from eventferry.clients.azure import AzureOptions, make_service
from eventferry.clients.azure_errors import diagnose
from eventferry.clients.diagnosis import Kind
from eventferry.errors import ConfigError, StoreError
from eventferry.installing import command
from eventferry.store import StoreSpec, open_store
from eventferry.store.layout import Layout, skip_scan

Requests = list[dict[str, str]]


@contextmanager
def _service(names: list[str], honours_start: bool, page: int = 1000) -> Iterator[tuple[StoreSpec, Requests]]:
    """Lists names as the service documents it; an older one does not look at startFrom."""
    requests: Requests = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            requests.append(query)
            start = max(query.get("marker", ""), query.get("startFrom", "") if honours_start else "")
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            entries: dict[str, bool] = {}
            for name in sorted(names):
                if name.startswith(prefix) and name >= start:
                    cut = name.find(delimiter, len(prefix)) if delimiter else -1
                    entries[name if cut < 0 else name[: cut + 1]] = cut >= 0
            rest = next(iter(list(entries)[page:]), "")
            body = _listing(dict(itertools.islice(entries.items(), page)), prefix, rest).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        options = (("account_url", f"http://127.0.0.1:{server.server_port}/account"), ("anonymous", True))
        try:
            yield StoreSpec("azure://container/raw", options), requests
        finally:
            server.shutdown()
            thread.join()


def _listing(entries: dict[str, bool], prefix: str, marker: str) -> str:
    folder = "<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata>"
    blobs = "".join(
        f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
        if is_prefix
        else f"<Blob><Name>{escape(name)}</Name><Properties>"
        "<Last-Modified>Fri, 02 Jan 2026 00:00:00 GMT</Last-Modified>"
        "<Etag>0x1</Etag><Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType></Properties>"
        f"{folder if name.endswith('-is-a-folder') else ''}</Blob>"
        for name, is_prefix in entries.items()
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<EnumerationResults ServiceEndpoint="http://x/" ContainerName="container">'
        f"<Prefix>{escape(prefix)}</Prefix><Blobs>{blobs}</Blobs><NextMarker>{escape(marker)}</NextMarker></EnumerationResults>"
    )


_DAYS = [f"raw/2026/01/{day:02}/{number:02}.gz" for day in range(1, 31) for number in range(20)]


def _poll(spec: StoreSpec) -> tuple[list[str], int]:
    """What a poll two days back from the 29th finds, and how many pages it asks for."""
    layout, store = Layout(), open_store(spec)
    floor = layout.floor("2026/01/29/00.gz", dt.datetime(2026, 1, 27, tzinfo=dt.UTC))
    found = [item.key for item, _ in skip_scan(store.list, layout, lambda partition: floor)]
    return found, store.list_calls


def test_a_poll_lists_from_the_look_back_on_where_the_service_begins_there() -> None:
    """Of thirty days the last four are listed, after one page that finds the partition."""
    with _service(_DAYS, honours_start=True, page=20) as (spec, requests):
        found, pages = _poll(spec)
        assert found == [name.removeprefix("raw/") for name in _DAYS[26 * 20 :]]
        assert pages == len(requests) == 1 + 4
        assert next(request["startFrom"] for request in requests if "startFrom" in request) == "raw/2026/01/27"


def test_a_poll_lists_from_the_look_back_on_where_the_service_does_not() -> None:
    """The same by folders: one look into each on the way, then the last four days."""
    with _service(_DAYS, honours_start=False, page=50) as (spec, requests):
        found, pages = _poll(spec)
        assert found == [name.removeprefix("raw/") for name in _DAYS[26 * 20 :]]
        on_the_way = ["raw/", "raw/2026/", "raw/2026/01/"]
        assert sorted(request["prefix"] for request in requests if "delimiter" in request) == on_the_way
        assert pages == len(requests) == 2 + 3 + 4


@pytest.mark.parametrize("honours_start", [True, False])
def test_a_listing_from_anywhere_is_the_rest_of_the_whole(honours_start: bool) -> None:
    """However folders and objects mix, and wherever the start lies: the same keys in the same order."""
    keys = ["a", "a-", "a-/x", "a.b", "a/b", "a/b-x", "a/b/c", "a/b/d/e", "a0", "b/é/ü", "b/z", "c/1/2/3", "日/本", "~"]
    places = [*keys, "", "a/", "a/b", "a/b/", "a/b/d", "a/c", "b", "b/é/", "c/1/2/", "zz", "é"]
    with _service([f"raw/{key}" for key in keys] + ["other/x", "raw2/y"], honours_start, page=3) as (spec, _):
        for after, prefix in itertools.product(places, ["", "a", "a/", "a/b", "b/é"]):
            wanted = sorted(key for key in keys if key > after and key.startswith(prefix))
            assert [found.key for found in open_store(spec).list(after or None, prefix)] == wanted, (after, prefix)


def test_placeholders_of_folders_are_left_out() -> None:
    """Neither names that end in a slash nor what a hierarchical namespace lists as a folder is an object."""
    names = ["raw/2026/", "raw/2026/01-is-a-folder", "raw/2026/01/f"]
    with _service(names, honours_start=True) as (spec, _):
        assert [found.key for found in open_store(spec).list()] == ["2026/01/f"]


@pytest.mark.servers
def test_stored_bytes_are_read_whatever_their_encoding_says(azure_place: AzurePlace) -> None:
    """An object that was uploaded with Content-Encoding: gzip comes as it lies there."""
    import gzip

    from azure.storage.blob import ContentSettings

    packed = gzip.compress(b'{"a": 1}\n' * 100)
    azure_place.container.upload_blob("raw/f.gz", packed, content_settings=ContentSettings(content_encoding="gzip"))
    assert azure_place.read(azure_place.find("f.gz")) == packed


@pytest.mark.servers
@pytest.mark.parametrize(
    ("options", "says", "kind"),
    [
        ({"account_key": "d3Jvbmc="}, "mend account_key or sas_token", Kind.PERSON),
        ({"account_key": None, "sas_token": "sv=2020-01-01&sig=SECRET"}, "mend account_key", Kind.PERSON),
        ({"account_key": None, "anonymous": True}, "mend account_key or sas_token, if one is set", Kind.PERSON),
        (
            {"account_url": "http://127.0.0.1:1/account"},
            "cannot be reached; check account_url",
            Kind.UNREACHABLE,
        ),
    ],
)
def test_what_goes_wrong_is_told_with_its_remedy(
    azure_place: AzurePlace, options: dict[str, object], says: str, kind: Kind
) -> None:
    """Each mistake has its own sentence, and none of them shows a secret."""
    store = open_store(azure_place.changed(attempts=1, **options))
    with pytest.raises(StoreError) as raised:
        list(store.list())
    assert says in str(raised.value)
    assert str(raised.value).startswith(f"listing {store.root}: ")
    assert not [each for each in ("SECRET", KEY) if each in str(raised.value)]
    assert raised.value.__cause__ is not None
    assert diagnose(raised.value.__cause__, "x").kind is kind


@pytest.mark.servers
def test_a_connection_string_says_all(azure_place: AzurePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where and as whom, from the options or from the environment; what is none is told without being shown."""
    azure_place.put("f")
    url = dict(azure_place.spec.options)["account_url"]
    text = f"AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint={url}"
    spec = StoreSpec(azure_place.spec.url, (("connection_string", text),))
    assert KEY not in repr(AzureOptions.of(spec.options)) + repr(spec)
    assert [found.key for found in open_store(spec).list()] == ["f"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert [found.key for found in open_store(StoreSpec(spec.url)).list()] == ["f"]
    with pytest.raises(ConfigError, match="copy it from the account's access keys") as raised:
        list(open_store(StoreSpec(spec.url, (("connection_string", "SECRET"),))).list())
    assert "SECRET" not in str(raised.value)


def test_an_account_is_found_in_the_environment_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """AZURE_STORAGE_ACCOUNT with its key; without any account the message names both ways."""
    for name in ("CONNECTION_STRING", "ACCOUNT", "KEY", "SAS_TOKEN"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    with pytest.raises(ConfigError, match="set account_url or connection_string, or AZURE_STORAGE_ACCOUNT"):
        AzureOptions().where()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "a2V5")
    assert AzureOptions().where() == ("https://account.blob.core.windows.net", None)
    assert AzureOptions().credential() == "a2V5"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "of=another")
    assert AzureOptions(sas_token="?sig=x").where() == ("https://account.blob.core.windows.net", None)
    assert AzureOptions(sas_token="?sig=x").credential() == "sig=x"


def test_a_managed_identity_is_looked_for_last() -> None:
    """With an account's URL alone azure-identity finds out who asks; which of several identities can be said."""
    from azure.identity import DefaultAzureCredential

    options = AzureOptions(account_url="https://account.blob.core.windows.net", client_id="0-1-2")
    assert isinstance(options.credential(), DefaultAzureCredential)


def test_mistakes_in_the_url_or_options_are_config_errors() -> None:
    """They are found before anything is asked of the network, and credentials in a URL are not repeated."""
    with pytest.raises(ConfigError, match="move them to account_key") as raised:
        open_store(StoreSpec("azure://user:SECRET@container/x"))
    assert "SECRET" not in str(raised.value)
    for url in ("azure://", "azure:///x", "azure://c/x?y"):
        with pytest.raises(ConfigError, match="is not the url of a container"):
            open_store(StoreSpec(url))
    for options, says in (
        ({"key": "x"}, "unknown options of an azure store: key"),
        ({"account_key": "x", "sas_token": "y"}, "says twice who asks"),
        ({"account_url": "https://x", "connection_string": "y"}, "not both"),
    ):
        with pytest.raises(ConfigError, match=says):
            open_store(StoreSpec("azure://c", tuple(options.items())))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"account_key": "SECRET?"}, "account_key of the azure store is not a key: it is not base64; copy it"),
        ({"account_key": "U0VDUkVU", "account_url": "https://far.example"}, "account_key of the azure store needs"),
        ({"sas_token": "SECRET"}, "sas_token of the azure store is not a token: it holds no sig=; copy it"),
        ({"account_url": "http://far.example"}, "account_url of the azure store must begin with https://"),
        (
            {"account_url": "https://", "anonymous": True},
            "account_url of the azure store is not a URL; expected https://",
        ),
        ({"account_url": None, "connection_string": "AccountName=a;AccountKey=SECRET?"}, "connection_string of the"),
    ],
)
def test_a_key_that_cannot_sign_is_a_config_error(options: dict[str, object], says: str) -> None:
    """The option and its remedy are named before anything is asked of the network, the key is not."""
    given = {"account_url": "https://account.blob.core.windows.net", **options}
    spec = StoreSpec("azure://container", tuple((name, value) for name, value in given.items() if value is not None))
    with pytest.raises(ConfigError) as raised:
        list(open_store(spec).list())
    assert says in str(raised.value)
    assert not [each for each in ("SECRET", "U0VDUkVU") if each in "".join(traceback.format_exception(raised.value))]


def test_a_key_of_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who set no option looks for the fault in the environment, where the key is."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_KEY", "SECRET?")
    with pytest.raises(ConfigError, match="AZURE_STORAGE_KEY of the azure store is not a key"):
        make_service(AzureOptions())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "SECRET")
    with pytest.raises(ConfigError, match="AZURE_STORAGE_CONNECTION_STRING of the azure store is not one"):
        make_service(AzureOptions())


def test_an_identity_that_cannot_be_made_is_looked_for_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is not to blame, and what the variables hold is not shown."""
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.setenv(name, "4711, no name!")
    with pytest.raises(ConfigError, match=r"cannot be used; look at .*AZURE_TENANT_ID") as raised:
        make_service(AzureOptions(account_url="https://account.blob.core.windows.net"))
    assert "4711" not in str(raised.value)


def test_who_asks_anonymously_needs_no_good_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of the environment that is never used stops nobody."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "no token")
    assert make_service(AzureOptions(anonymous=True)).account_name == "account"


def test_without_the_package_the_install_command_is_named() -> None:
    """A missing extra says which command installs it."""
    code = (
        "import sys; sys.modules['azure.storage.blob'] = None\n"
        "from eventferry.store import StoreSpec, open_store\n"
        "try: open_store(StoreSpec('azure://container'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ConfigError azure stores need azure-storage-blob: {command('eventferry[azure]')}\n"


def test_a_page_is_asked_for_when_it_is_needed(small_pages: Callable[[int], None]) -> None:
    """Stopping after a few objects has asked for no more."""
    small_pages(10)
    with _service(_DAYS, honours_start=True, page=10) as (spec, requests):
        store = open_store(spec)
        assert len(list(itertools.islice(store.list(), 15))) == 15
        assert len(requests) == 2
        assert requests[0]["maxresults"] == "10"
