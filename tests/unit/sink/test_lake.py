"""What the words of lake libraries, which have one class for every error, are taken for."""

import pytest
from pydantic import SecretStr
from pyiceberg.exceptions import CommitStateUnknownException

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.lake import is_refusal, is_unreached, secrets_in
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


def test_only_what_a_key_calls_secret_is_masked():
    """Regions and endpoints help whoever reads the message; a password inside of a URL does not."""
    values = {
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://store:9000",
        "AWS_SECRET_ACCESS_KEY": "secret-one",
        "azure_storage_sas_token": "secret-two",
        "header.X-Auth": "secret-three",
        "uri": "postgresql://ferry:secret-four@catalog/lake",
    }
    found = list(secrets_in({name: SecretStr(value) for name, value in values.items()}))
    assert found == ["secret-one", "secret-two", "secret-three", "secret-four"]


REFUSED = "Kernel error -> Generic S3 error Error performing GET http://127.0.0.1:9/b in 1.3ms - tcp connect error"


def test_what_cannot_be_reached_is_named_once_with_a_remedy():
    """Not in the library's words, which are those of a stack."""
    endpoint = "http://127.0.0.1:9"
    url = "s3://lake/events"
    delta = make_sink("delta", "lake", {"url": url, "storage": {"AWS_ENDPOINT_URL": endpoint}})
    iceberg = make_sink("iceberg", "lake", {"catalog": {"type": "rest", "uri": endpoint}, "table": "a.events"})
    delta.open()
    said = str(delta._meaning(OSError(REFUSED), reads=True))
    assert said == (
        f"{url}: the endpoint {endpoint} cannot be reached (no connection was made);"
        " check `storage`, DNS and the network"
    )
    with pytest.raises(SinkUnavailable) as caught:
        iceberg.open()
    assert str(caught.value) == (
        f"table a.events: the catalog {endpoint} cannot be reached (connection refused);"
        " check `catalog`, DNS and the network"
    )


def test_other_words_lose_the_librarys_way_of_telling_them():
    """What remains is what went wrong."""
    with make_sink("delta", "lake", {"url": "s3://lake/events"}) as sink:
        words = "Kernel error: Generic S3 error: Error performing GET http://s/b in 1.35ms - connection closed"
        assert str(sink._meaning(OSError(words), reads=True)) == "s3://lake/events: connection closed"


def test_a_wrong_type_of_catalog_lists_the_right_ones():
    """Before anything is asked."""
    sink = make_sink("iceberg", "lake", {"catalog": {"type": "sqlite"}, "table": "a.events"})
    with pytest.raises(SinkMisconfigured, match=r"type 'sqlite'; expected one of rest, .*sql"):
        sink.open()


def test_check_of_a_folder_proves_that_it_can_be_written_to(tmp_path):
    """Or that the table can be made in the nearest folder that is there; nothing is left behind."""
    (tmp_path / "file").touch()
    with make_sink("delta", "lake", {"url": f"{tmp_path}/new/events", "create": True}) as sink:
        assert "first delivery makes it" in "".join(sink.check())
    for bad in (tmp_path / "file", "/proc/events"):
        with (
            make_sink("delta", "lake", {"url": str(bad), "create": True}) as sink,
            pytest.raises(SinkMisconfigured, match="cannot write to"),
        ):
            list(sink.check())
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
