"""A place in S3 is written in a handful of ways; what is none of them is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.exports.egress import Egress
from eventferry.exports.s3_target import S3Target, TargetRefused, parse_s3_path

OWN = Egress(["minio.internal:9000", "*.stores.internal", "10.1.0.0/16"])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("s3://my-bucket/exports/daily/", S3Target("my-bucket", "exports/daily/")),
        ("s3://my-bucket", S3Target("my-bucket", "")),
        ("S3://my.bucket/a b%20c", S3Target("my.bucket", "a b%20c/")),
        ("https://my-bucket.s3.amazonaws.com/exports/", S3Target("my-bucket", "exports/")),
        ("https://my-bucket.s3.amazonaws.com", S3Target("my-bucket", "")),
        ("https://my.bucket.s3.amazonaws.com/a%20b/c", S3Target("my.bucket", "a b/c/")),
        ("https://my-bucket.s3.eu-central-1.amazonaws.com/x", S3Target("my-bucket", "x/", None, "eu-central-1")),
        ("https://my-bucket.s3-us-west-2.amazonaws.com/x", S3Target("my-bucket", "x/", None, "us-west-2")),
        ("https://b-1.s3.dualstack.us-gov-west-1.amazonaws.com/x", S3Target("b-1", "x/", None, "us-gov-west-1")),
        ("https://b-1.s3.cn-north-1.amazonaws.com.cn/x", S3Target("b-1", "x/", None, "cn-north-1")),
        ("https://s3.amazonaws.com/my-bucket/exports/x", S3Target("my-bucket", "exports/x/")),
        ("https://s3.eu-west-3.amazonaws.com/my-bucket", S3Target("my-bucket", "", None, "eu-west-3")),
        ("https://S3.Amazonaws.com/my-bucket/é", S3Target("my-bucket", "é/")),
        ("https://minio.internal:9000/my-bucket/x/", S3Target("my-bucket", "x/", "https://minio.internal:9000")),
        ("http://minio.internal:9000/my-bucket", S3Target("my-bucket", "", "http://minio.internal:9000")),
        ("https://a.stores.internal/my-bucket/x", S3Target("my-bucket", "x/", "https://a.stores.internal:443")),
        ("http://10.1.2.3:8333/my-bucket/x", S3Target("my-bucket", "x/", "http://10.1.2.3:8333")),
    ],
)
def test_every_usual_form_is_read(text: str, target: S3Target) -> None:
    """Bucket, prefix, store and region."""
    assert parse_s3_path(text, OWN) == target


def test_an_endpoint_may_be_given_beside_the_path() -> None:
    """And a region counts for more than the one in the path; nothing is decoded twice."""
    made = parse_s3_path("s3://my-bucket/a%20b", OWN, endpoint="https://minio.internal:9000/", region="eu-1")
    assert made == S3Target("my-bucket", "a%20b/", "https://minio.internal:9000", "eu-1")
    assert parse_s3_path("s3://my-bucket", OWN, region="eu-west-1").region == "eu-west-1"
    assert parse_s3_path("https://b-1.s3.us-east-2.amazonaws.com/", OWN, region="eu-west-1").region == "eu-west-1"
    for endpoint, region in (("https://minio.internal:9000/x", None), ("https://else.internal", None), (None, "a/b")):
        with pytest.raises(TargetRefused):
            parse_s3_path("s3://my-bucket/x", OWN, endpoint=endpoint, region=region)
    with pytest.raises(TargetRefused, match="with an endpoint"):
        parse_s3_path("https://minio.internal:9000/my-bucket", OWN, endpoint="https://minio.internal:9000")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my-bucket/x",
        "ftp://my-bucket/x",
        "s3://",
        "s3:///x",
        "s3://b/x",
        "s3://-bucket/x",
        "s3://my..bucket/x",
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/x",
        "s3://key:secret@my-bucket/x",
        "s3://my-bucket/../other",
        "s3://my-bucket/a/./b",
        "s3://my-bucket/a//b",
        "s3://my-bucket/a\nb",
        "s3://my-bucket/a\\b",
        "s3://my-bucket/x?versionId=1",
        "s3://my-bucket/x#y",
        "s3://my-bucket/" + "x" * 801,
        "s3://my-bucket/" + "x/" * 2000,
        "https://my-bucket.s3.amazonaws.com/a%2F..%2Fb",
        "https://my-bucket.s3.amazonaws.com/a%00b",
        "https://my-bucket.s3.amazonaws.com:8443/x",
        "http://my-bucket.s3.amazonaws.com/x",
        "https://user@my-bucket.s3.amazonaws.com/x",
        "https://s3.amazonaws.com/",
        "https://amazonaws.com/my-bucket",
        "https://ec2.amazonaws.com/my-bucket",
        "https://my-bucket.s3.amazonaws.com.evil.example/x",
        "https://s3.amazonaws.com.evil.example/my-bucket",
        "https://evil.example/my-bucket/x",
        "https://minio.internal:9001/my-bucket/x",
        "https://stores.internal/my-bucket/x",
        "https://169.254.169.254/my-bucket/x",
        "https://127.0.0.1:9000/my-bucket/x",
        "https://minio.internal:9000",
        "https://minio.internal:9000/..%2Fother/x",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Without a look-up, and in one printable line."""
    with pytest.raises(TargetRefused) as refused:
        parse_s3_path(text, OWN)
    assert str(refused.value).isprintable()


def test_what_is_refused_never_shows_credentials() -> None:
    """Neither those before the @ nor those of a query."""
    for text in ("https://AKID:hidden-1@evil.example/b", "https://evil.example/b?X-Amz-Signature=hidden-1"):
        with pytest.raises(TargetRefused) as refused:
            parse_s3_path(text, OWN)
        assert "hidden-1" not in str(refused.value)


@given(text=st.text() | st.from_regex(r"(s3|https)://[ -~]{1,60}", fullmatch=True))
def test_a_target_is_never_anywhere_but_in_amazon_or_a_store_of_ones_own(text: str) -> None:
    """Whatever was written; and it can be written again."""
    try:
        target = parse_s3_path(text, OWN)
    except TargetRefused:
        return
    assert target.endpoint is None or ".internal:" in target.endpoint or "//10.1." in target.endpoint
    assert not {"..", "."} & {*target.prefix.split("/")}
    assert parse_s3_path(f"s3://{target.bucket}/{target.prefix}", OWN).prefix == target.prefix
