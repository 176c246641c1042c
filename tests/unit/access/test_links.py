"""A signed link opens its file until it expires; anything else opens nothing."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventferry import clock
from eventferry.access.keyring import Keyring
from eventferry.access.links import LinkRefused, check_link, make_link

EXPORT, NAME = "0b9f2c9e-3f6b-4f55-8a55-0d9c9c1b1c11", "part-0001.csv.gz"
HOUR = 3_600_000


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


def follow(ring: Keyring, link: str) -> None:
    """Check a link in the way the server does: path split and decoded, query as it was sent."""
    parts = urlsplit(link)
    steps = parts.path.split("/")
    if steps[:3] != ["", "v1", "exports"] or len(steps) != 6 or steps[4] != "files" or parts.fragment:
        raise LinkRefused()  # another route, or none
    check_link(ring, unquote(steps[3]), unquote(steps[5]), parts.query)


def test_a_link_opens_its_file_for_as_long_as_it_says(ring: Keyring) -> None:
    """To the second; afterwards it is told apart from one that never was."""
    with freeze_time("2026-01-01") as frozen:
        link = make_link(ring, EXPORT, NAME, clock.now_ms() + HOUR)
        assert link.startswith(f"/v1/exports/{EXPORT}/files/{NAME}?expires=")
        follow(ring, link)
        frozen.tick(3599)
        follow(ring, link)
        frozen.tick(1)
        with pytest.raises(LinkRefused) as refused:
            follow(ring, link)
    assert refused.value.expired


def test_every_flipped_bit_of_a_link_is_refused(ring: Keyring) -> None:
    """Path and query, whatever the bit makes of them."""
    link = make_link(ring, EXPORT, NAME, clock.now_ms() + HOUR).encode()
    for at in range(len(link)):
        for bit in range(8):
            changed = bytearray(link)
            changed[at] ^= 1 << bit
            with pytest.raises(LinkRefused):
                follow(ring, changed.decode("latin-1"))


def test_every_truncated_link_is_refused(ring: Keyring) -> None:
    """Mail programs break lines."""
    link = make_link(ring, EXPORT, NAME, clock.now_ms() + HOUR)
    for end in range(len(link)):
        with pytest.raises(LinkRefused):
            follow(ring, link[:end])


def test_parameters_stand_once_and_in_their_place(ring: Keyring) -> None:
    """Doubled, added, moved, empty, encoded: refused, though the signature is right."""
    path, _, query = make_link(ring, EXPORT, NAME, clock.now_ms() + HOUR).partition("?")
    expires, key, signature = query.split("&")
    follow(ring, f"{path}?{query}")
    later = f"expires={clock.now_ms() // 1000 + 10**6}"
    for wrong in (
        *(f"{query}&{each}" for each in (expires, key, signature, later, "x=1", "")),
        *(f"{each}&{query}" for each in (expires, later, "x=1", "")),
        f"{signature}&{expires}&{key}",
        query.replace("expires=", "expires=0"),
        query.replace("expires=", "expires=+"),
        query.replace("expires=", "expires=%31"),
        query.replace("&", ";"),
        query.upper(),
        query + "\n",
        "",
    ):
        with pytest.raises(LinkRefused):
            check_link(ring, EXPORT, NAME, wrong)


def test_a_link_is_for_one_file_of_one_export(ring: Keyring) -> None:
    """Neither the next part, nor a file whose name and export together spell the same path."""
    query = make_link(ring, "a", "b/files/c", clock.now_ms() + HOUR).partition("?")[2]
    check_link(ring, "a", "b/files/c", query.encode())
    for export, name in (("a/files/b", "c"), ("a", "b/files/d"), ("b", "b/files/c"), ("a", "b%2Ffiles%2Fc")):
        with pytest.raises(LinkRefused):
            check_link(ring, export, name, query)


def test_a_forged_link_that_is_over_is_not_called_expired(ring: Keyring) -> None:
    """Only what was genuine once is told that it is over."""
    query = make_link(ring, EXPORT, NAME, 1_000_000).partition("?")[2]
    with pytest.raises(LinkRefused) as refused:
        check_link(ring, EXPORT, "other", query)
    assert not refused.value.expired


def test_links_outlive_a_rotation_but_not_forgetting(ring: Keyring) -> None:
    """Older secrets verify until they are forgotten."""
    link = make_link(ring, EXPORT, NAME, clock.now_ms() + HOUR)
    ring.rotate()
    follow(ring, link)
    ring.rotate(forget=True)
    with pytest.raises(LinkRefused):
        follow(ring, link)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text() | st.binary())
def test_junk_is_refused(ring: Keyring, query: str | bytes) -> None:
    """Whatever stands after the question mark."""
    with pytest.raises(LinkRefused):
        check_link(ring, EXPORT, NAME, query)
