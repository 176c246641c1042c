"""Buckets end every call at the deadline, and say what a person or the daemon does about an error."""

import contextlib
import errno
import os
import sys

import pytest
from tests.contract.receiver import dripping, nobody
from tests.stub_store import answering

from eventferry import clock
from eventferry.sink import BatchTooLarge, SinkMisconfigured, SinkUnavailable
from eventferry.sink.files import ATTEMPTS
from eventferry.sink.objects import AzureAccess, GcsAccess, S3Access, directory, open_bucket, place_of

SECRET = "c2VjcmV0LWtleS00NzEx"  # base64, as Azure wants it
ACCESS = {
    "s3": lambda url: S3Access(endpoint=url, access_key="AKIDTEST", secret_key=SECRET),
    "gs": lambda url: GcsAccess(endpoint=url, anonymous=True),
    "azure": lambda url: AzureAccess(account_url=f"{url}/account", account_key=SECRET),
}


@contextlib.contextmanager
def _bucket(kind, url, seconds=5.0):
    with contextlib.closing(open_bucket(place_of(f"{kind}://bucket/a"), ACCESS[kind](url), seconds)) as bucket:
        bucket.begin(seconds)
        yield bucket


def _body(kind, code):
    if kind == "gs":
        return {"Content-Type": "application/json"}, f'{{"error":{{"code":0,"message":"{code} {SECRET}"}}}}'.encode()
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{SECRET}</Message></Error>'
    return {"Content-Type": "application/xml", "x-ms-error-code": code}, text.encode()


@pytest.mark.parametrize("kind", ACCESS)
@pytest.mark.parametrize("body", [b"<html>welcome</html>", b""])
def test_an_answer_that_is_none_of_the_store_proves_nothing(kind, body):
    """200 with a page comes from something in between: whether the object is there is unknown."""
    with answering(200, {"Content-Type": "text/html"}, body) as url, _bucket(kind, url) as bucket:
        with pytest.raises(SinkUnavailable) as caught:
            bucket.put("k", b"x")
        assert not caught.value.untouched


@pytest.mark.parametrize("kind", ACCESS)
class TestEveryStore:
    def test_a_call_ends_at_its_deadline(self, kind):
        """A server that drips bytes is left; a write is unknown then, a read has changed nothing."""
        with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url, _bucket(kind, url, 0.4) as bucket:
            for call, untouched in ((lambda: bucket.put("k", b"x"), False), (lambda: bucket.head("k"), True)):
                bucket.begin(0.4)
                began = clock.monotonic()
                with pytest.raises(SinkUnavailable, match=r"within 0\.4 s") as caught:
                    call()
                assert clock.monotonic() - began < 1.4
                assert caught.value.untouched is untouched

    def test_calls_share_their_time(self, kind):
        """Once the time is over no further call is made."""
        with answering(500, {}, b"") as url, _bucket(kind, url) as bucket:
            bucket.begin(1e-9)
            with pytest.raises(SinkUnavailable, match="not done within") as caught:
                bucket.put("k", b"x")
            assert caught.value.untouched

    def test_no_connection_touches_nothing(self, kind):
        """Nobody listens: later, and nothing can have been taken."""
        with nobody() as url, _bucket(kind, url.removesuffix("/in")) as bucket:
            with pytest.raises(SinkUnavailable) as caught:
                bucket.put("k", b"x")
            assert caught.value.untouched
            assert bucket.root in str(caught.value)

    def test_a_broken_connection_is_unknown(self, kind):
        """The server closed it without an answer: the object may be there."""
        with dripping(b"", b"\r\n\r\n", every=0.01) as url, _bucket(kind, url) as bucket:
            with pytest.raises(SinkUnavailable) as caught:
                bucket.put("k", b"x")
            assert not caught.value.untouched

    @pytest.mark.parametrize(
        ("status", "code", "error", "words"),
        [
            (403, {"s3": "AccessDenied", "azure": "AuthorizationPermissionMismatch"},
             SinkMisconfigured, "(?i)object|blob"),
            (401, {"s3": "InvalidAccessKeyId", "azure": "InvalidAuthenticationInfo"},
             SinkMisconfigured, "key|credentials"),
            (404, {"s3": "NoSuchBucket", "azure": "ContainerNotFound", "gs": "The specified bucket does not exist."},
             SinkMisconfigured, "create = true"),
            (413, {"s3": "EntityTooLarge", "azure": "RequestBodyTooLarge"}, BatchTooLarge, "larger"),
            (500, {"s3": "InternalError", "azure": "InternalError"}, SinkUnavailable, "InternalError|500"),
        ],
    )  # fmt: skip
    def test_refusals_have_their_kind(self, kind, status, code, error, words):
        """A person, smaller, or later; with the store's code and a remedy, never with the store's own words."""
        headers, body = _body(kind, code.get(kind, "x"))
        with answering(status, headers, body) as url, _bucket(kind, url) as bucket:
            with pytest.raises(error, match=words) as caught:
                bucket.put("k", b"x")
            assert SECRET not in str(caught.value)
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
            assert not getattr(caught.value, "untouched", False)

    def test_a_wish_for_patience_is_passed_on(self, kind):
        """Throttled requests have no effect, and the store says for how long to leave it alone."""
        status, code = (429, "x") if kind == "gs" else (503, "ServerBusy" if kind == "azure" else "SlowDown")
        headers, body = _body(kind, code)
        with answering(status, {**headers, "Retry-After": "17"}, body) as url, _bucket(kind, url) as bucket:
            with pytest.raises(SinkUnavailable) as caught:
                bucket.put("k", b"x")
            assert (caught.value.retry_after, caught.value.untouched) == (17, True)

    def test_a_condition_that_does_not_hold_is_no_error(self, kind):
        """412 says that the object is there; to a plain write it is unknown what that means."""
        headers, body = _body(kind, "ConditionNotMet" if kind == "azure" else "PreconditionFailed")
        with answering(412, headers, body) as url, _bucket(kind, url) as bucket:
            assert bucket.put_if_absent("k", b"x") is False
            with pytest.raises(SinkUnavailable):
                bucket.put("k", b"x")

    def test_a_missing_library_says_what_installs_it(self, kind, monkeypatch):
        """The command is in the message."""
        module, extra = {
            "s3": ("boto3", "s3"),
            "gs": ("google.cloud.storage", "gcs"),
            "azure": ("azure.storage.blob", "azure"),
        }[kind]
        monkeypatch.setitem(sys.modules, module, None)
        if kind == "azure":
            import azure.storage

            monkeypatch.delattr(azure.storage, "blob", raising=False)
        with pytest.raises(SinkMisconfigured, match=rf"pip install 'eventferry\[{extra}\]'"), _bucket(kind, "http://x"):
            pass


@pytest.mark.parametrize("access", [{"account_url": "https://far.example"}, {"connection_string": "nonsense"}])
def test_an_account_that_is_none_calls_a_person(access):
    """The library's own words would say the value; ours say what to write."""
    key = {} if "connection_string" in access else {"account_key": SECRET}
    with pytest.raises(SinkMisconfigured, match="account"):
        open_bucket(place_of("azure://bucket/a"), AzureAccess(**access, **key))


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ({"account_url": "https://acc.blob.core.windows.net", "account_key": "HUSH?"}, "account_key .* is not base64"),
        ({"account_url": "https://far.example", "account_key": SECRET}, "account_key .*AccountName=ACCOUNT"),
        ({"connection_string": "AccountName=acc;AccountKey=HUSH?"}, "connection_string .* is not base64"),
        ({"account_url": "https://far.example", "sas_token": "HUSH"}, "sas_token .* holds no sig="),
        ({"account_url": "http://far.example"}, "account_url .* https://"),
    ],
)
def test_a_key_that_cannot_sign_calls_a_person(access, words):
    """The option and its remedy are named before anything is sent, the key is not."""
    with pytest.raises(SinkMisconfigured, match=words) as caught:
        open_bucket(place_of("azure://bucket/a"), AzureAccess(**access))
    assert not [each for each in ("HUSH", SECRET) if each in str(caught.value)]
    assert caught.value.__cause__ is None


def test_a_call_through_a_proxy_ends_at_its_deadline(monkeypatch):
    """Proxies of the environment are used, and their connections are watched as well."""
    with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
        monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/in"))
        monkeypatch.setenv("http_proxy", url.removesuffix("/in"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for kind in ("s3", "gs"):
            with (
                _bucket(kind, "http://far.example", 0.3) as bucket,
                pytest.raises(SinkUnavailable, match=r"within 0\.3 s"),
            ):
                bucket.put("k", b"x")


def test_the_access_of_another_store_is_refused():
    """Whoever mixes them up is told, before anything is sent."""
    with pytest.raises(SinkMisconfigured, match="gs:// URLs"):
        open_bucket(place_of("s3://bucket/x"), GcsAccess())


def test_a_server_that_knows_no_conditions_is_asked_first():
    """501 for If-None-Match: the object is looked for, and written without the condition."""
    seen = []

    def answer(method, headers):
        seen.append((method, "If-None-Match" in headers))
        if method == "HEAD":
            return 404, {}, b""
        if "If-None-Match" in headers:
            return 501, *_body("s3", "NotImplemented")
        return 200, {"ETag": '"x"'}, b""

    with answering(0, {}, b"", answer) as url, _bucket("s3", url) as bucket:
        assert bucket.put_new("k", b"x")
    assert seen == [("HEAD", False), ("PUT", True), ("HEAD", False), ("PUT", False)]


# A directory


@pytest.fixture
def shelf(tmp_path):
    bucket = open_bucket(place_of(str(tmp_path)))
    bucket.begin(5)
    return bucket


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (errno.ENOSPC, SinkUnavailable, "free some space"),
        (errno.EROFS, SinkMisconfigured, "ReadWritePaths="),
        (errno.EIO, SinkUnavailable, "Input/output"),
    ],
)
def test_a_disk_that_fails_leaves_nothing(shelf, tmp_path, monkeypatch, number, error, words):
    """Until the file has its name nothing was touched, and the attempt is removed."""

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(directory.os, "write", fail)
    with pytest.raises(error, match=words) as caught:
        shelf.put("a/b", b"x")
    assert getattr(caught.value, "untouched", True)
    assert list((tmp_path / ATTEMPTS).iterdir()) == []
    assert list(shelf.list("")) == []


def test_a_file_system_without_second_names_is_asked_first(shelf, monkeypatch):
    """Where links are not supported, what is there is looked for."""

    def link(*args):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(directory.os, "link", link)
    assert shelf.put_if_absent("k", b"one")
    assert not shelf.put_if_absent("k", b"two")
    assert shelf.get("k") == b"one"


def test_an_unmounted_directory_is_not_taken_for_an_empty_one(tmp_path):
    """Nobody can tell what is there: a person is called, and nothing is created above the last folder."""
    bucket = open_bucket(place_of(str(tmp_path / "disk" / "lake")))
    for call in (
        lambda: bucket.head("k"),
        lambda: bucket.get("k"),
        lambda: list(bucket.list("")),
        bucket.prove,
        bucket.make,
    ):
        with pytest.raises(SinkMisconfigured, match="create the directory"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_only_old_attempts_are_swept(shelf, tmp_path):
    """What a dead process left goes, what a living one writes stays."""
    shelf.prove()
    for name, age in (("old", 7200), ("young", 60)):
        path = tmp_path / ATTEMPTS / name
        path.write_bytes(b"")
        moment = path.stat().st_mtime - age
        os.utime(path, (moment, moment))
    shelf.prove()
    assert [path.name for path in (tmp_path / ATTEMPTS).iterdir()] == ["young"]
