"""What the clickhouse sink decides without a server: meanings of exceptions, times, options, statements."""

import datetime as dt

import pytest
from pydantic import ValidationError
from tests.contract.receiver import receiving

from eventferry.sink import BatchRejected, BatchTooLarge, Guarantee, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.clickhouse.body import Moments, span
from eventferry_sinks.clickhouse.meanings import code_in, meaning
from eventferry_sinks.clickhouse.options import ClickhouseOptions
from eventferry_sinks.clickhouse.table import Abilities, bare, create_statement, takes

SECRET = "alice@example.org"
OLD = "Code: {}, e.displayText() = DB::Exception: {}, e.what() = DB::Exception"
NEW = "Code: {}. DB::Exception: {} (SOME_NAME) (version 26.9.2.1)"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((60, 81, 16, 47, 62, 115, 164, 192, 193, 194, 497, 516), SinkMisconfigured),
        ((26, 27, 41, 6, 53, 70, 72, 117, 407, 469), BatchRejected),
        ((159, 202, 209, 210, 241, 242, 252, 319, 394, 999, 1001, 9999), SinkUnavailable),
    ],
)
@pytest.mark.parametrize("form", [OLD, NEW])
def test_an_exception_means_what_its_code_says(codes, expected, form):
    """Whatever the age of the server and the status of its answer, the code decides what the daemon does."""
    for code in codes:
        text = form.format(code, "Something is so")
        assert code_in(text) == code
        error = meaning(code, text, "http://ch:8123/")
        assert type(error) is expected, code
        assert str(error).startswith("http://ch:8123/: ")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (252, "Too many partitions for single INSERT block (more than 100)"),
        (241, "Memory limit (for query) exceeded: would use 10 GiB"),
        (241, "Query memory limit exceeded: would use 10 GiB"),
    ],
)
def test_what_is_too_much_for_one_insert_is_halved(code, text):
    """The same codes mean later where the whole server is short of memory, or of time to merge."""
    assert type(meaning(code, NEW.format(code, text), "ch")) is BatchTooLarge


def test_nothing_of_an_event_is_in_a_message():
    """A refusal names column and place, never the values that ClickHouse quotes."""
    texts = {
        27: f"Cannot parse input: expected '\"' before: '{SECRET}': (while reading the value of key n): (at row 7)",
        469: f"Constraint `c` for table d.t is violated at row 1. Column values: event = '{SECRET} (at row 9)'.",
        1002: f"an unknown exception about {SECRET}",
        241: f"Memory limit (total) exceeded while it handled {SECRET}",
    }
    said = {code: str(meaning(code, NEW.format(code, text), "ch")) for code, text in texts.items()}
    assert not any(SECRET in each for each in said.values())
    assert said[27] == "ch: CANNOT_PARSE_INPUT_ASSERTION_FAILED (code 27) (while reading the value of key n) (at row 7)"
    assert said[469] == "ch: VIOLATED_CONSTRAINT (code 469) Constraint `c` is violated at row 1"


def test_a_password_that_is_echoed_is_masked():
    """What a server says of the user is shown without the secret."""
    error = meaning(516, NEW.format(516, "default: Authentication failed: password 4711-secret"), "ch", ["4711-secret"])
    assert "4711" not in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE)"),
        (200, {"X-ClickHouse-Exception-Code": "60"}, b""),
        (200, {}, b"__exception__\r\nCode: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE)"),
        (200, {}, b"<html>Welcome to nginx!</html>"),
        (404, {}, b"no such page"),
    ],
)
def test_a_200_that_tells_of_an_exception_is_no_success(answer):
    """ClickHouse may fail after it has sent the status; a stranger that answers 200 is no ClickHouse."""
    with _stub(insert=answer) as receiver, _sink(receiver) as sink, pytest.raises(SinkMisconfigured):
        sink.deliver(make_batch(sample_events(2)))


@pytest.mark.parametrize(
    ("answer", "wish", "untouched"),
    [
        ((503, {"Retry-After": "7"}, b"the proxy is busy"), 7.0, False),
        ((429, {"Retry-After": "7"}, b"slow down"), 7.0, True),
        ((500, {}, b"Code: 252. DB::Exception: Too many parts (3000). (TOO_MANY_PARTS)"), 30.0, False),
        ((500, {}, b"Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY)"), 5.0, True),
        ((500, {}, b"Code: 216. DB::Exception: Query with id = x is already running. (QUERY_WITH)"), None, False),
    ],
)
def test_what_passes_by_itself_is_tried_again(answer, wish, untouched):
    """Later, after the pause that is asked for or makes sense; untouched only where nothing was looked at."""
    with _stub(insert=answer) as receiver, _sink(receiver) as sink, pytest.raises(SinkUnavailable) as caught:
        sink.deliver(make_batch(sample_events(2)))
    assert (caught.value.retry_after, caught.value.untouched) == (wish, untouched)


def test_a_part_that_the_table_takes_for_the_whole_holds_the_sink():
    """Where a server keeps a broken-off insert and drops its repeat, a person is told which events are lacking."""
    with _stub(stored=1) as receiver, _sink(receiver) as sink, pytest.raises(SinkMisconfigured, match="1 of 2 events"):
        sink.deliver(make_batch(sample_events(2), attempt=2))


def test_a_repeat_that_is_there_is_not_sent():
    """However old the first attempt is: what stands under the batch's id is not inserted again."""
    with _stub(stored=2, insert=(500, {}, b"never asked")) as receiver, _sink(receiver) as sink:
        sink.deliver(make_batch(sample_events(2), attempt=2))
        assert sink.was_delivered(make_batch(sample_events(2))) is True


def test_while_an_insert_runs_nobody_takes_its_batch_apart():
    """Its halves would stand beside what it is about to write: the batch stays whole until it has ended."""
    with _stub(running=1) as receiver, _sink(receiver) as sink, pytest.raises(SinkUnavailable, match="still runs"):
        sink.was_delivered(make_batch(sample_events(2)))


@pytest.mark.parametrize(
    ("engine", "full", "window", "guarantee"),
    [
        ("MergeTree", "MergeTree ORDER BY x", "0", Guarantee.AT_LEAST_ONCE_KEYED),
        ("MergeTree", "x SETTINGS non_replicated_deduplication_window = 9", "0", Guarantee.EFFECTIVELY_ONCE),
        ("MergeTree", "MergeTree ORDER BY x", "50", Guarantee.EFFECTIVELY_ONCE),
        ("ReplicatedMergeTree", "ReplicatedMergeTree('/x') ORDER BY x", "100", Guarantee.EFFECTIVELY_ONCE),
        ("SharedMergeTree", "x SETTINGS replicated_deduplication_window = 0", "100", Guarantee.AT_LEAST_ONCE_KEYED),
        ("Distributed", "Distributed('c', 'd', 't')", "100", Guarantee.AT_LEAST_ONCE_KEYED),
        ("Null", "Null", "100", Guarantee.AT_LEAST_ONCE_KEYED),
    ],
)  # fmt: skip
def test_the_claim_is_what_engine_and_window_allow(engine, full, window, guarantee):
    """The type's guarantee is lowered where this table cannot drop a repeat."""
    with _stub(engine=engine, full=full, window=window) as receiver, _sink(receiver) as sink:
        assert sink.guarantee is guarantee
        assert list(sink.check())[-1].startswith(f"{guarantee}: ")


def test_rights_that_are_only_useful_are_not_required():
    """Without them nothing is claimed that cannot be known, a check names the right, and batches are delivered."""
    denied = (b"WHERE batch_id", b"SELECT batch_id", b"system.processes", b"merge_tree_settings")
    with _stub(denied=denied) as receiver, _sink(receiver) as sink:
        batch = make_batch(sample_events(2), attempt=2)
        assert sink.was_delivered(batch) is None
        assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED
        assert any("GRANT SELECT(batch_id) ON default.events" in step for step in sink.check())
        sink.deliver(batch)
        assert receiver.requests[-1].body.count(batch.id.encode()) == 2


def test_who_may_not_look_for_an_old_repeat_claims_less():
    """A window forgets: where an older repeat cannot be noticed either, the guarantee is lowered; a check says why."""
    with _stub(denied=(b"WHERE batch_id", b"SELECT batch_id"), window="100") as receiver, _sink(receiver) as sink:
        assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED
        assert "GRANT SELECT(batch_id)" in " ".join(sink.check())


def test_rights_that_are_needed_hold_the_sink():
    """The message has the server's words and says where the grants are written down."""
    with _stub(denied=(b"system.tables",)) as receiver, pytest.raises(SinkMisconfigured, match="Not enough privileges"):
        _sink(receiver).open()


def test_a_buffer_is_refused():
    """What a Buffer has taken is not durable."""
    with _stub(engine="Buffer") as receiver, pytest.raises(SinkMisconfigured, match="behind it"), _sink(receiver):
        pass


def test_an_insert_is_one_block_under_one_token():
    """Profiles cannot make it asynchronous, tolerant of errors, or split it; the operator's own settings go along."""
    with _stub() as receiver, _sink(receiver, settings={"insert_quorum": "auto"}) as sink:
        batch = make_batch(sample_events(2))
        sink.deliver(batch)
    query = receiver.requests[-1].path
    for expected in (
        f"insert_deduplication_token={batch.id}",
        f"query_id={batch.id}",
        "async_insert=0",
        "input_format_allow_errors_num=0",
        "min_insert_block_size_rows=1048576",
        "insert_quorum=auto",
        "wait_end_of_query=1",
    ):
        assert expected in query, expected


def test_a_moment_means_the_same_in_every_zone():
    """Texts end with Z; microseconds are kept; what a type cannot hold is NULL and counted."""
    noon = int(dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000
    first, beyond = (second * 1_000_000 for second in span("DateTime64(6)"))
    values = [noon, noon + 123_000, noon + 1, None, -1, first, first - 1, beyond, noon + 5_000]
    assert Moments("DateTime64(6, 'UTC')").texts(values) == (
        [
            "2024-05-01 12:00:00.000Z",
            "2024-05-01 12:00:00.123Z",
            "2024-05-01 12:00:00.000001Z",
            None,
            "1969-12-31 23:59:59.999999Z",
            "1900-01-01 00:00:00.000Z",
            None,
            None,
            "2024-05-01 12:00:00.005Z",
        ],
        2,
    )
    whole = [noon + 999_999, -1, 2**32 * 1_000_000, 2**32 * 1_000_000 - 1]
    assert Moments("DateTime").texts(whole) == (["2024-05-01 12:00:00Z", None, None, "2106-02-07 06:28:15Z"], 2)
    assert span("DateTime64(9)")[1] < span("DateTime64(6)")[1]


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://ch:8123/?password=x"},
        {"url": "http://u:p@ch:8123/"},
        {"password": "x"},
        {"user": "a:b", "password": "x"},
        {"engine": "Memory"},
        {"engine": "ReplacingMergeTree"},
        {"engine": "MergeTree() ORDER BY x; DROP TABLE y"},
        {"settings": {"async_insert": 1}},
        {"settings": {"insert_deduplication_token": "x"}},
        {"settings": {"a&b": 1}},
        {"database": "a`b"},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options):
    """Secrets in URLs, engines that lose events, and settings on which the guarantee rests."""
    with pytest.raises(ValidationError):
        ClickhouseOptions.model_validate({"url": "http://ch:8123/", **options})


def test_types_are_seen_through_their_wrapping():
    """A column takes what is configured if each of its values fits, whatever stands around its type."""
    assert bare("LowCardinality(Nullable(String))") == "String"
    assert takes("Nullable(DateTime64(3, 'Europe/Berlin'))", "timestamp")
    assert takes("DateTime", "timestamp")
    assert not takes("Nullable(Int32)", "integer")
    assert not takes("Array(String)", "text")


def test_old_servers_get_what_they_know():
    """Statements for a server of 2018 hold no type and no setting that came later."""
    old, new = Abilities("18.16.1", frozenset()), Abilities("26.9.2.1", frozenset({"insert_deduplication_token"}))
    columns = ClickhouseOptions(url="http://ch/").all_columns()
    said = [create_statement("d.t", each.columns(columns), "MergeTree", each) for each in (old, new)]
    assert "DateTime('UTC')" in said[0]
    assert "SETTINGS" not in said[0]
    assert "non_replicated_deduplication_window = 10000" in said[1]


def _sink(receiver, **options):
    return make_sink("clickhouse", "ch", {"url": receiver.url, **options})


def _stub(
    insert=(200, {}, b""), engine="MergeTree", full="MergeTree ORDER BY x", window="100", stored=0, denied=(), running=0
):
    """Something that answers as a ClickHouse does which has the table."""
    data = {
        b"version()": '["26.9.2.1"]',
        b"system.settings": ",".join(f'["{name}"]' for name in SETTINGS),
        b"system.tables": f'["{engine}","{full}"]',
        b"system.columns": ",".join(f'["{name}","{kind}"]' for name, kind in COLUMNS.items()),
        b"system.merge_tree_settings": f'["{window}"]',
        b"system.processes": f'["{running}"]',
        b"WHERE batch_id": f'["{stored}"]',
        b"SELECT batch_id": "",
    }

    def answer(request):
        if request.body.startswith(b"INSERT"):
            return insert if b"{" in request.body else (200, {}, b"")
        if any(word in request.body for word in denied):
            return 403, {}, b"Code: 497. DB::Exception: eventferry: Not enough privileges. (ACCESS_DENIED)"
        (rows,) = [rows for word, rows in data.items() if word in request.body]
        return 200, {}, f'{{"data":[{rows}]}}'.encode()

    return receiving(answer)


SETTINGS = (
    "insert_deduplication_token", "async_insert", "input_format_allow_errors_num", "min_insert_block_size_rows",
)  # fmt: skip
COLUMNS = {
    "event_time": "Nullable(DateTime64(6))", "event_type": "Nullable(String)", "event": "String", "batch_id": "String",
}  # fmt: skip
