"""Assumed roles: the caller's credentials open nothing but the role, and the role's are renewed without being asked."""

import datetime as dt
from collections.abc import Iterator

import pytest
from tests.integration.store.conftest import FilePlace
from tests.servers import S3Server
from tests.sts_server import StsServer, sts_server

from eventferry.errors import ConfigError, StoreError
from eventferry.store import StoreSpec, open_store

ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
def sts(s3: S3Server) -> Iterator[StsServer]:
    """Gives out what the S3 server lets in; the caller's own key it does not know."""
    with sts_server(StsServer("AKIDCALLER", "SECRETCALLER", ROLE, "ext-7", s3.access_key, s3.secret_key)) as server:
        yield server


def _spec(place: FilePlace, sts: StsServer, **options: object) -> StoreSpec:
    role = {"role_arn": ROLE, "external_id": "ext-7", "sts_endpoint": sts.endpoint}
    caller = {"access_key": "AKIDCALLER", "secret_key": "SECRETCALLER", "attempts": 1}
    return place.changed(**{**role, **caller, **options})


def test_a_role_reads_what_its_caller_may_not(s3_place: FilePlace, sts: StsServer) -> None:
    """The role is asked for once, with a name for its owner's logs, and its key opens the bucket."""
    s3_place.put("f", b"bytes")
    store = open_store(_spec(s3_place, sts, role_session="ferry-1"))
    assert [found.key for found in store.list()] == ["f"]
    assert store.check() == (f"{store.root} can be listed", "f can be read")
    assert [asked["RoleSessionName"] for asked in sts.asked] == ["ferry-1"]
    own = {"role_arn": None, "external_id": None, "sts_endpoint": None}
    with pytest.raises(StoreError, match="InvalidAccessKeyId"):
        list(open_store(_spec(s3_place, sts, **own)).list())


def test_a_role_is_assumed_again_before_it_expires(s3_place: FilePlace, sts: StsServer) -> None:
    """A daemon that runs for weeks never shows an expired token."""
    sts.life = dt.timedelta(minutes=5)  # less than the quarter of an hour that the SDK renews ahead
    s3_place.put("f", b"bytes")
    store = open_store(_spec(s3_place, sts))
    for expected in (1, 2, 3):
        assert [found.key for found in store.list()] == ["f"]
        assert len(sts.asked) >= expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"external_id": "wrong"}, "AccessDenied; the role cannot be assumed; its trust policy must name"),
        ({"role_arn": "arn:aws:iam::123456789012:role/other"}, "AccessDenied; the role cannot be assumed"),
        ({"secret_key": "SECRETWRONG"}, "the secret does not belong to the access key that is to assume the role"),
        ({"sts_endpoint": "http://127.0.0.1:1"}, "the endpoint http://127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_role_that_is_refused_is_told_with_its_remedy(
    s3_place: FilePlace, sts: StsServer, options: dict[str, object], says: str
) -> None:
    """Each mistake has its own sentence, and none of them shows a secret or a token."""
    with pytest.raises(StoreError) as raised:
        list(open_store(_spec(s3_place, sts, **options)).list())
    assert says in str(raised.value)
    assert not [each for each in ("SECRET", "token", "ext-7") if each in str(raised.value).replace("sas_token", "")]


def test_nobody_assumes_a_role_anonymously() -> None:
    """The two exclude each other before anything is asked."""
    with pytest.raises(ConfigError, match="remove anonymous or role_arn"):
        open_store(StoreSpec("s3://b", (("anonymous", True), ("role_arn", ROLE))))
