"""What the words of lake libraries, which have one class for every error, are taken for."""

import pytest
from pyiceberg.exceptions import CommitStateUnknownException

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.lake import is_refusal, is_unreached
from eventferry.sink.registry import make_sink


@pytest.mark.parametrize(
    "said",
    [
        "Server returned non-2xx status code 403 Forbidden <Error><Code>AccessDenied</Code></Error>",
        "An error occurred (404) when calling the HeadBucket operation: Not Found",
        "Client error 401: no such token",
        "the operation lacked the necessary privileges: Permission denied (os error 13)",
    ],
)
def test_a_refusal_needs_a_person(said):
    """A status or a word that no retry mends."""
    assert is_refusal(said)
    assert not is_unreached(said)


@pytest.mark.parametrize("time", ["403.497µs", "401.1ms", "404.08ms"])
def test_a_time_is_no_status(time):
    """An error that took 403.497 µs is not one that was answered with 403."""
    said = f"Error performing PUT http://store:9000/b/t/1.parquet in {time} - HTTP error: connection closed"
    assert not is_refusal(said)


def test_the_name_of_a_place_refuses_nothing(tmp_path):
    """A path that holds a word or a number of refusals does not make an outage a person's business."""
    delta = make_sink("delta", "lake", {"url": str(tmp_path / "forbidden" / "404")})
    iceberg = make_sink("iceberg", "lake", {"catalog": {"type": "in-memory"}, "table": "forbidden.credentials"})
    with delta, iceberg:
        broken = OSError("connection closed before message completed")
        for error in (delta._meaning(broken, reads=False), iceberg._meaning(broken, untouched=False)):
            assert isinstance(error, SinkUnavailable)
            assert not error.untouched


@pytest.mark.parametrize("words", ["Connection refused by the metastore", "403 from the store"])
def test_a_commit_whose_state_is_unknown_stays_unknown(words):
    """Whatever a catalog quotes of those behind it, what it does not know is neither untouched nor a refusal."""
    with make_sink("iceberg", "lake", {"catalog": {"type": "in-memory"}, "table": "analytics.events"}) as sink:
        error = sink._meaning(CommitStateUnknownException(words), untouched=False)
        assert isinstance(error, SinkUnavailable)
        assert not error.untouched
        assert isinstance(sink._meaning(OSError("403 Forbidden"), untouched=False), SinkMisconfigured)
