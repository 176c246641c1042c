"""A requester's store gets the files whole, with the requester's credentials, or nothing at all."""

import itertools
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.receivers import HttpReceiver, Reply, http_receiver
from tests.servers import S3Server, s3_server

from eventferry.exports import s3_client
from eventferry.exports.egress import Egress
from eventferry.exports.s3_client import close_client, open_client
from eventferry.exports.s3_destination import S3Credentials, UploadCancelled, UploadFailed, upload
from eventferry.exports.s3_target import S3Target, TargetRefused, parse_s3_path

MIB = 2**20
LOOPBACK = Egress(["127.0.0.1"])
THEIRS = S3Credentials("AKIDTHEIRS", "secret-of-theirs")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def bucket(server: S3Server) -> Path:
    """The folder of a new bucket."""
    made = server.folder / f"bucket-{next(_numbers)}"
    made.mkdir()
    return made


@pytest.fixture
def target(server: S3Server, bucket: Path) -> S3Target:
    return parse_s3_path(f"{server.endpoint}/{bucket.name}/exports/daily", LOOPBACK)


@pytest.fixture
def theirs(server: S3Server) -> S3Credentials:
    return S3Credentials(server.access_key, server.secret_key)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(12 * MIB + 7))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b'{"events": 3}')
    return path


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as made:
        yield made


def objects(bucket: Path) -> dict[str, bytes]:
    return {str(path.relative_to(bucket)): path.read_bytes() for path in bucket.rglob("*") if path.is_file()}


def unfinished(target: S3Target, credentials: S3Credentials) -> list[Any]:
    """The uploads in parts that nobody has ended."""
    client = open_client(target, credentials, LOOPBACK)
    try:
        return list(client.list_multipart_uploads(Bucket=target.bucket).get("Uploads") or ())
    finally:
        close_client(client)


def at(receiver: HttpReceiver) -> S3Target:
    return parse_s3_path(f"{receiver.url.rpartition('/services')[0]}/bucket/prefix/", LOOPBACK)


def test_files_arrive_whole_whatever_their_size(
    bucket: Path, target: S3Target, theirs: S3Credentials, large: Path, small: Path, tmp_path: Path
) -> None:
    """In parts or in one piece, empty ones too; the progress grows to the sum of their sizes."""
    (tmp_path / "empty").touch()
    told: list[int] = []
    files = [(large, "a.parquet"), (tmp_path / "empty", "b.csv"), (small, "manifest.json")]
    upload(target, theirs, files, LOOPBACK, progress=told.append, part_bytes=5 * MIB)
    assert objects(bucket) == {f"exports/daily/{name}": path.read_bytes() for path, name in files}
    assert told == sorted(told)
    assert told[-1] == sum(path.stat().st_size for path, _ in files)
    assert unfinished(target, theirs) == []


def test_an_object_of_the_name_is_replaced(bucket: Path, target: S3Target, theirs: S3Credentials, small: Path) -> None:
    """Which makes a repeat after a crash harmless."""
    for content in (b"old", b"new"):
        small.write_bytes(content)
        upload(target, theirs, [(small, "a.json")], LOOPBACK)
    assert objects(bucket) == {"exports/daily/a.json": b"new"}


def test_a_cancelled_upload_leaves_nothing_of_its_file(
    bucket: Path, target: S3Target, theirs: S3Credentials, large: Path
) -> None:
    """Neither an object nor parts that somebody pays for."""
    told: list[int] = []
    with pytest.raises(UploadCancelled):
        upload(
            target, theirs, [(large, "a")], LOOPBACK,
            progress=told.append, cancelled=lambda: len(told) == 2, part_bytes=5 * MIB,
        )  # fmt: skip
    assert objects(bucket) == {}
    assert unfinished(target, theirs) == []


@pytest.mark.parametrize("how", ["the file shrinks", "whoever is told of the progress fails"])
def test_a_failed_upload_leaves_nothing_of_its_file(
    bucket: Path, target: S3Target, theirs: S3Credentials, large: Path, tmp_path: Path, how: str
) -> None:
    """Whatever the failure."""

    def fail(_: int) -> None:
        if how == "the file shrinks":
            os.truncate(large, 6 * MIB)
            return
        raise RuntimeError(how)

    note = tmp_path / "note"
    with pytest.raises(UploadFailed):
        upload(target, theirs, [(large, "a")], LOOPBACK, progress=fail, part_bytes=5 * MIB, note=note)
    assert objects(bucket) == {}
    assert unfinished(target, theirs) == []
    assert not note.exists()


def test_parts_that_a_killed_process_left_are_removed_by_the_next_one(
    bucket: Path, target: S3Target, theirs: S3Credentials, small: Path, tmp_path: Path
) -> None:
    """By what it had written down; half a note or an old one does no harm."""
    note = tmp_path / "note"
    client = open_client(target, theirs, LOOPBACK)
    left = client.create_multipart_upload(Bucket=target.bucket, Key=target.key("a"))
    close_client(client)
    whole = json.dumps({name: left[name] for name in ("Bucket", "Key", "UploadId")})
    assert len(unfinished(target, theirs)) == 1
    for text in (whole, whole, whole[:20], "[]"):
        note.write_text(text)
        upload(target, theirs, [(small, "a")], LOOPBACK, note=note)
        assert unfinished(target, theirs) == []
        assert not note.exists()
    assert objects(bucket) == {"exports/daily/a": small.read_bytes()}


def test_memory_does_not_grow_with_the_parts(target: S3Target, theirs: S3Credentials, tmp_path: Path) -> None:
    """A part is read from the disk as it is sent."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(32 * MIB)
    peaks = []
    for part_bytes in (5 * MIB, 5 * MIB, 24 * MIB):  # what is loaded once does not count
        tracemalloc.start()
        try:
            upload(target, theirs, [(huge, "a")], LOOPBACK, part_bytes=part_bytes)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2 * MIB


def use_another_identity(monkeypatch: pytest.MonkeyPatch, folder: Path, elsewhere: str) -> None:
    """The daemon's own credentials and settings, in every place where the SDK looks for them."""
    (folder / "aws").mkdir()
    own = (
        "[default]\naws_access_key_id = AKIDOWN\naws_secret_access_key = secret-of-ours\naws_session_token = tokenown\n"
    )
    (folder / "aws" / "credentials").write_text(own)
    (folder / "aws" / "config").write_text(f"[default]\nregion = mars-1\nendpoint_url = {elsewhere}\n{own[10:]}")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDOWN",
        "AWS_SECRET_ACCESS_KEY": "secret-of-ours",
        "AWS_SESSION_TOKEN": "tokenown",
        "AWS_PROFILE": "absent",
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws" / "credentials"),
        "AWS_CONFIG_FILE": str(folder / "aws" / "config"),
        "AWS_ENDPOINT_URL": elsewhere,
        "AWS_ENDPOINT_URL_S3": elsewhere,
        "AWS_DEFAULT_REGION": "mars-1",
        "AWS_REGION": "mars-1",
        "AWS_CA_BUNDLE": str(folder / "absent"),
        "AWS_CSM_ENABLED": "true",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{elsewhere}/role",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": elsewhere,
        "HTTP_PROXY": elsewhere,
        "HTTPS_PROXY": elsewhere,
        "http_proxy": elsewhere,
    }.items():
        monkeypatch.setenv(name, value)


def test_only_the_requesters_credentials_are_used(
    receiver: HttpReceiver, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the environment, of profiles or of the machine's role: not in a header, not in a request elsewhere."""
    with http_receiver() as elsewhere:
        use_another_identity(monkeypatch, tmp_path, elsewhere.url.rpartition("/services")[0])
        receiver.reply = Reply(200, {"ETag": '"x"'}, b"")
        upload(at(receiver), THEIRS, [(small, "a.json")], LOOPBACK)
        (request,) = receiver.requests
        assert elsewhere.requests == []
    assert (request.method, request.path, request.body) == ("PUT", "/bucket/prefix/a.json", small.read_bytes())
    assert "Credential=AKIDTHEIRS/" in request.headers["Authorization"]
    assert "/us-east-1/s3/" in request.headers["Authorization"]
    sent = json.dumps(dict(request.headers)).lower()
    assert not [word for word in ("akidown", "tokenown", "mars-1", "secret-of") if word in sent]


def test_a_session_token_goes_along(receiver: HttpReceiver, small: Path) -> None:
    """Temporary credentials are credentials."""
    receiver.reply = Reply(200, {"ETag": '"x"'}, b"")
    upload(at(receiver), S3Credentials("AKIDTHEIRS", "s", "their-token"), [(small, "a")], LOOPBACK)
    assert receiver.requests[0].headers["X-Amz-Security-Token"] == "their-token"


@pytest.mark.parametrize(
    ("credentials", "where", "words"),
    [
        (S3Credentials("AKIDTEST", "wrong-secret"), None, "secret key does not belong"),
        (S3Credentials("AKIDNONE", "wrong-secret"), None, "does not know the access key"),
        (None, "absent-bucket", "there is no such bucket"),
    ],
)
def test_what_the_store_refuses_is_told_in_a_sentence(
    server: S3Server, target: S3Target, theirs: S3Credentials, small: Path,
    credentials: S3Credentials | None, where: str | None, words: str,
) -> None:  # fmt: skip
    """Without the credentials, and as something that no repeat mends."""
    there = parse_s3_path(f"{server.endpoint}/{where}/x", LOOPBACK) if where else target
    with pytest.raises(UploadFailed, match=words) as failed:
        upload(there, credentials or theirs, [(small, "a")], LOOPBACK)
    assert not failed.value.temporary
    assert not re.search("wrong-secret|SECRETTEST|AKID", repr(failed.value))


def refusal(status: int, code: str, message: str = "hidden words of the store, AKIDTHEIRS") -> Reply:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, text.encode())


@pytest.mark.parametrize(
    ("reply", "words", "temporary"),
    [
        (refusal(403, "AccessDenied"), "may not write there", False),
        (refusal(301, "PermanentRedirect"), "another region", False),
        (refusal(400, "ExpiredToken"), "session token has expired", False),
        (refusal(418, "Strange<!-- -->"), "refused it", False),
        (Reply(404, {}, b"<html>no store at all"), "no such bucket", False),
        (Reply(307, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "refused it", False),
    ],
)
def test_each_refusal_has_its_meaning(
    receiver: HttpReceiver, small: Path, reply: Reply, words: str, temporary: bool
) -> None:
    """The store's own words are left out: they may quote what was sent."""
    receiver.reply = reply
    with pytest.raises(UploadFailed, match=words) as failed:
        upload(at(receiver), THEIRS, [(small, "a")], LOOPBACK)
    assert failed.value.temporary is temporary
    assert not re.search("hidden|AKID|secret-of", repr(failed.value))


def test_a_passing_failure_is_tried_again(receiver: HttpReceiver, small: Path) -> None:
    """With the whole body."""
    receiver.script.extend([Reply(503), refusal(500, "InternalError")])
    receiver.reply = Reply(200, {"ETag": '"x"'}, b"")
    upload(at(receiver), THEIRS, [(small, "a")], LOOPBACK)
    assert [request.body for request in receiver.requests] == [small.read_bytes()] * 3


def test_a_lasting_failure_is_given_up_as_temporary(
    receiver: HttpReceiver, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries; the whole upload may be tried later."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    receiver.reply = refusal(503, "SlowDown")
    with pytest.raises(UploadFailed, match="for its own reasons") as failed:
        upload(at(receiver), THEIRS, [(small, "a")], LOOPBACK)
    assert failed.value.temporary
    assert len(receiver.requests) == 2


def test_a_store_that_hangs_is_given_up(receiver: HttpReceiver, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has a deadline of its own."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    monkeypatch.setattr(s3_client, "STALL_SECONDS", 0.3)
    receiver.reply = Reply(hang=True)
    with pytest.raises(UploadFailed, match=r"stopped answering|closed the connection") as failed:
        upload(at(receiver), THEIRS, [(small, "a")], LOOPBACK)
    assert failed.value.temporary


def test_a_store_that_is_not_there_is_told(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be there later."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    target = S3Target("bucket", "", "http://127.0.0.1:1")
    with pytest.raises(UploadFailed, match="cannot be reached") as failed:
        upload(target, THEIRS, [(small, "a")], LOOPBACK)
    assert failed.value.temporary


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_is_sent_where_the_operator_does_not_allow_it(receiver: HttpReceiver, small: Path, host: str) -> None:
    """Even where a target was made while it was still allowed; the client itself is guarded."""
    port = receiver.url.split("/")[2].split(":")[1]
    for scheme, egress in (("http", Egress()), ("https", Egress()), ("http", Egress(["10.0.0.0/8"]))):
        with pytest.raises(UploadFailed, match=r"only https|public internet|port .* not allowed") as failed:
            upload(S3Target("bucket", "", f"{scheme}://{host}:{port}"), THEIRS, [(small, "a")], egress)
        assert not failed.value.temporary
    assert receiver.requests == []


def test_a_bucket_of_amazon_that_means_this_machine_is_not_connected_to(
    receiver: HttpReceiver, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poisoned resolver sends nobody to loopback: the address counts, not the name."""
    import socket

    port = int(receiver.url.split("/")[2].split(":")[1])
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)
    target = parse_s3_path("https://bucket.s3.eu-central-1.amazonaws.com/prefix/", Egress())
    with pytest.raises(UploadFailed, match="not on the public internet"):
        upload(target, THEIRS, [(small, "a")], Egress())
    assert receiver.requests == []


def test_a_file_that_is_gone_is_our_fault_not_the_stores(receiver: HttpReceiver, tmp_path: Path) -> None:
    """And says so."""
    with pytest.raises(UploadFailed, match="the export's file cannot be read"):
        upload(at(receiver), THEIRS, [(tmp_path / "absent", "a")], LOOPBACK)


def test_a_key_that_s3_does_not_take_is_refused(receiver: HttpReceiver, small: Path) -> None:
    """Before anything is sent."""
    with pytest.raises(TargetRefused, match="too long"):
        upload(at(receiver), THEIRS, [(small, "a" * 1020)], LOOPBACK)
    assert receiver.requests == []
