"""The parts of the object_store sink that need no store: partitions, CSV, places, options."""

import csv
import io

import pytest
from pydantic import ValidationError

from eventferry.errors import ConfigError
from eventferry.sink.columns import Column
from eventferry.sink.objects import AzureAccess, GcsAccess, S3Access, place_of
from eventferry.sink.registry import make_sink
from eventferry.sink.rows import Extractor
from eventferry_sinks.object_store.delimited import csv_of
from eventferry_sinks.object_store.options import ObjectStoreOptions
from eventferry_sinks.object_store.partitions import NO_TIME, Group, check_partition, groups_of

HOUR = 3_600_000_000
NOON = 1714564800_000_000  # 2024-05-01T12:00Z in µs


def test_events_of_one_folder_are_not_taken_apart():
    """One day is one group of all events, hours of it are groups with the events in their order."""
    times = [NOON + 30 * HOUR, NOON, NOON + HOUR - 1, NOON + 30 * HOUR + 5]
    assert groups_of("date={date}", times[1:3]) == [Group("date=2024-05-01")]
    assert groups_of("y={year}", times) == [Group("y=2024")]
    assert groups_of("all", [*times, None]) == [Group("all")]
    assert groups_of("date={date}/hour={hour}", times) == [
        Group("date=2024-05-02/hour=18", [0, 3]),
        Group("date=2024-05-01/hour=12", [1, 2]),
    ]


def test_undated_events_have_a_folder_of_their_own():
    """What has no time lies where Hive, Spark and DuckDB read NULL."""
    assert groups_of("date={date}/hour={hour}", [None, None]) == [Group(f"date={NO_TIME}/hour={NO_TIME}")]
    assert groups_of("{year}/{month}/{day}", [None, NOON]) == [
        Group(f"{NO_TIME}/{NO_TIME}/{NO_TIME}", [0]),
        Group("2024/05/01", [1]),
    ]


def test_times_at_the_edges_have_folders():
    """Years 1 and 9999, and the last microsecond before 1970."""
    edges = [-62135596800_000_000, 253402300799_999_000, -1]
    assert [group.folder for group in groups_of("{date}", edges)] == ["0001-01-01", "9999-12-31", "1969-12-31"]


@pytest.mark.parametrize(
    "template", ["/a", "a/", "a//b", "..", "_a", ".a/b", "a b", "{weekday}", "date={date", "a\n", "ä"]
)
def test_partitions_that_are_no_folders_are_refused(template):
    """Hidden steps would hide the events, others would leave the prefix."""
    with pytest.raises(ValueError, match="is not a path of partitions"):
        check_partition(template)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket.example.org/x", "gs://bucket.example.org/x"),
        ("azure://container/x", "azure://container/x"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("/srv/x/", "/srv/x"),
    ],
)
def test_urls_name_places(url, root):
    """Every store has its scheme; the root is what messages name."""
    assert place_of(url).root == root


@pytest.mark.parametrize(
    "url",
    ["", "srv/x", "http://x/y", "s3://", "s3:///x", "s3://a b/c", "s3://bucket?x", "s3://b", "s3://bucket/a/../b",
     "s3://bucket/a//b", "file://host/x", "s3://bucket/a\x01", "/srv/\x00", "s3://[x/"],
)  # fmt: skip
def test_urls_that_name_no_place_are_refused(url):
    """The message says what is expected."""
    with pytest.raises(ValueError, match="expected"):
        place_of(url)


def test_a_bucket_whose_name_cannot_be_is_told_so():
    """Not that the URL names no store."""
    with pytest.raises(ValueError, match="a bucket's name that is not valid"):
        place_of("s3://ab/x")


def test_credentials_in_a_url_are_not_shown():
    """They have options of their own."""
    with pytest.raises(ConfigError) as caught:
        make_sink("object_store", "lake", {"url": "s3://AKID:very-secret@bucket/x"})
    assert "holds credentials" in str(caught.value)
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"compression": "snappy"}, "snappy"),
        ({"columns": {"n": "n"}}, "NDJSON has no columns"),
        ({"format": "csv", "columns": {"event_time": "x"}}, "type timestamp"),
        ({"gcs": {}}, "for gs:// URLs"),
        ({"s3": {"access_key": "a"}}, "secret_key is missing"),
        ({"s3": {"access_key": "a", "secret_key": "b", "anonymous": True}}, "says twice"),
        ({"s3": {"endpoint": "example.org"}}, "is not an endpoint"),
        ({"s3": {"bucket": "x"}}, "extra"),
    ],
)
def test_options_that_contradict_each_other_are_refused(more, words):
    """What would be ignored is an error."""
    with pytest.raises(ValidationError, match=words):
        ObjectStoreOptions.model_validate({"url": "s3://bucket/x", **more})


def test_access_says_once_who_asks():
    """The same rules as of sources."""
    with pytest.raises(ValidationError, match="says twice"):
        GcsAccess(anonymous=True, credentials_file="/x.json")
    with pytest.raises(ValidationError, match="says twice"):
        AzureAccess(account_key="a", sas_token="b")
    with pytest.raises(ValidationError, match="exclude each other"):
        AzureAccess(account_url="https://a.example", connection_string="b")
    made = S3Access(access_key="AK", secret_key="so-secret", session_token="", ca_file="")
    assert "so-secret" not in repr(made)
    assert made.client_options(5.0).secret_key == "so-secret"
    assert made.client_options(5.0).attempts == 1
    assert made.session_token is None


def test_a_secret_of_a_wrong_type_is_not_shown():
    """A complaint about a nested secret names its key only."""
    with pytest.raises(ConfigError) as caught:
        make_sink("object_store", "lake", {"url": "s3://bucket/x", "s3": {"access_key": "a", "secret_key": 47114711}})
    assert "sinks.lake.s3.secret_key" in str(caught.value)
    assert "47114711" not in str(caught.value)


def test_csv_is_read_back_as_it_was():
    """Quotes, commas, breaks and empty texts; NULL is an empty cell without quotes."""
    columns = {
        "text": Column(path=("t",)),
        "number": Column(path=("n",), type="number"),
        "flag": Column(path=("f",), type="boolean"),
        "time": Column(path=("at",), type="timestamp"),
        "tree": Column(path=("j",), type="json"),
    }
    events = [
        b'{"t":"a \\"b\\", c\\r\\nd","n":1.5,"f":true,"at":1714564800000,"j":{"a":[1, 2]}}',
        b'{"t":"","n":-0.0,"f":false}',
        '{"t":"ü,"}'.encode(),
        b"{}",
    ]
    body = b"".join(event + b"\n" for event in events)
    text = csv_of(body, Extractor(columns).extract(body), columns, "the-id").decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == [*columns, "event", "batch_id"]
    assert rows[1][:-2] == ['a "b", c\r\nd', "1.5", "true", "2024-05-01 12:00:00.000000", '{"a":[1, 2]}']
    assert rows[2][:3] == ["", "-0.0", "false"]
    assert [row[-2].encode() for row in rows[1:]] == events
    assert {row[-1] for row in rows[1:]} == {"the-id"}
    lines = text.split("\r\n")
    assert lines[-3].startswith('"ü,",,')
    assert lines[-2] == ',,,,,"{}",the-id'
    assert '\r\n"",-0.0,' in text
