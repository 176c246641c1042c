"""What keys say, and that jumping ahead in a listing loses nothing."""

import bisect
import datetime as dt
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.errors import ConfigError
from eventferry.store.base import StoreObject
from eventferry.store.layout import DEFAULT_PATTERN, KeyInfo, Layout, Selection, skip_scan

TENANTS = r"^(?P<tenant>[a-z]+)/(?P<collection>[^/]+)/(?P<date>\d{4}-\d{2}-\d{2}(?:T\d{2})?)/"


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("pattern", "key", "date", "partition"),
    [
        (DEFAULT_PATTERN, "2026/01/02/03/file.gz", utc(2026, 1, 2, 3), ""),
        (DEFAULT_PATTERN, "2026/01/02/file.gz", utc(2026, 1, 2), ""),
        (DEFAULT_PATTERN, "2026/01/02/30x/file.gz", utc(2026, 1, 2), ""),
        (TENANTS, "acme/views/2026-01-02T03/f", utc(2026, 1, 2, 3), "acme/views/"),
        (r"(?P<date>year=\d+/month=\d+/day=\d+)", "x/year=2026/month=01/day=02/f", utc(2026, 1, 2), "x/"),
    ],
)
def test_a_key_says_its_date_and_partition(pattern: str, key: str, date: dt.datetime, partition: str) -> None:
    """The date is read from the digits of the group, in UTC; what stands before it is the partition."""
    info = Layout(pattern).match(key)
    assert info is not None
    assert (info.date, info.partition) == (date, partition)


@pytest.mark.parametrize(
    "key", ["_SUCCESS", "errors/2026/01/02/f", "2026/13/01/f", "2026/02/30/f", "2026/01/02/24/f", "٢٠٢٦/01/02/f"]
)
def test_keys_without_a_date_of_the_calendar_are_foreign(key: str) -> None:
    """A key that the pattern or the calendar does not know is nobody's."""
    assert Layout().match(key) is None


def test_names_are_read_from_groups() -> None:
    """tenant, project and collection come from the pattern's groups."""
    info = Layout(TENANTS).match("acme/views/2026-01-02/f")
    assert info is not None
    assert (info.tenant, info.project, info.collection) == ("acme", None, "views")


def test_without_a_pattern_every_key_is_taken_undated() -> None:
    """No pattern: no date, no foreign keys."""
    assert Layout(None).match("anything at all") == KeyInfo()
    assert Layout(None).floor("anything", utc(2026, 1, 1)) is None


@pytest.mark.parametrize(("pattern", "says"), [("(", "no regular expression"), (r"(?P<day>\d+)", "known are")])
def test_a_bad_pattern_is_a_config_error(pattern: str, says: str) -> None:
    """The pattern is named with what is wrong about it."""
    with pytest.raises(ConfigError, match=says):
        Layout(pattern)


dates = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC))


@given(dates, dates, st.sampled_from(["%Y/%m/%d/", "%Y/%m/%d/%H/"]))
def test_a_floor_parts_older_keys_from_younger(moment: dt.datetime, other: dt.datetime, form: str) -> None:
    """Keys dated the moment's hour (or day) or later sort after the floor, all earlier ones before it."""
    floor = Layout().floor(f"{other:{form}}f", moment)
    grain = moment.replace(minute=0, second=0, microsecond=0, **({} if "%H" in form else {"hour": 0}))
    assert floor is not None
    assert floor < f"{moment:{form}}"
    assert (f"{other:{form}}f" > floor) == (other >= grain)


def test_a_floor_knows_other_zones() -> None:
    """Dates in keys are UTC; a moment of another zone is converted."""
    moment = dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=3)))
    assert Layout().floor("2026/05/05/05/f", moment) == "2025/12/31/22"


class Listing:
    """A brute-force store that counts what is taken from it."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.calls = 0
        self.taken = 0

    def __call__(self, start_after: str | None) -> Iterator[StoreObject]:
        self.calls += 1
        assert self.calls < 100
        start = 0 if start_after is None else bisect.bisect_right(self.keys, start_after)
        for key in self.keys[start:]:
            self.taken += 1
            yield StoreObject(key, "v", 1, 0)


def scan(keys: list[str], layout: Layout, floors: Callable[[str], str | None]) -> tuple[list[str], Listing]:
    listing = Listing(keys)
    found = []
    for item, info in skip_scan(listing, layout, floors):
        assert info == layout.match(item.key)
        found.append(item.key)
    return found, listing


tenant_keys = st.builds(
    lambda tenant, collection, date, hour, name: f"{tenant}/{collection}/{date:%Y-%m-%d}{hour}/{name}",
    st.sampled_from(["a", "b", "zz"]),
    st.sampled_from(["v", "w x"]),
    st.dates(dt.date(2025, 12, 28), dt.date(2026, 1, 5)),
    st.sampled_from(["", "T00", "T13", "T99"]),
    st.sampled_from(["f", "_SUCCESS", "é"]),
)
foreign_keys = st.one_of(
    st.sampled_from(["a", "a/v", "a/v/zzz", "a/errors/x", "b/", "zz/v/2026-01-01", "~", "A", "a/v/9"]),
    st.text(alphabet="a/v2026-T", min_size=1, max_size=12),
)
floor_dates = st.dictionaries(
    st.sampled_from(["a/v/", "b/v/", "b/w x/", "zz/v/"]), st.dates(dt.date(2025, 12, 27), dt.date(2026, 1, 6))
)


@given(st.lists(st.one_of(tenant_keys, foreign_keys), unique=True, max_size=40), floor_dates)
def test_a_scan_with_jumps_finds_what_a_plain_one_finds(keys: list[str], dates: dict[str, dt.date]) -> None:
    """Every key above its partition's floor is found once, in order; none below; foreign keys outside of jumps too."""
    layout = Layout(TENANTS)
    floors = {partition: f"{partition}{date:%Y-%m-%d}" for partition, date in dates.items()}
    found, listing = scan(keys, layout, floors.get)
    wanted = []
    for key in sorted(keys):
        info = layout.match(key)
        floor = floors.get(info.partition) if info and info.date else None
        if floor is None or key > floor:
            wanted.append(key)
    jumped = [key for key in wanted if key not in found]
    assert found == [key for key in wanted if key in found]
    assert len(found) == len(set(found))
    assert listing.calls <= 1 + len(floors)
    assert listing.taken <= len(found) + len(floors)
    for key in jumped:  # only foreign keys between two dates of one partition
        assert layout.match(key) is None
        assert any(key.startswith(partition) and key <= floor for partition, floor in floors.items())


def test_old_keys_cost_one_look_per_partition() -> None:
    """A hundred thousand keys below their floors are not read."""
    keys = [f"{tenant}/v/2025-{month:02}-01/{n:05}" for tenant in "abc" for month in range(1, 13) for n in range(3000)]
    found, listing = scan(keys, Layout(TENANTS), lambda partition: f"{partition}2025-12-01")
    assert len(found) == 3 * 3000
    assert listing.taken == 3 * 3000 + 3
    assert listing.calls == 4


def test_the_listing_that_is_left_is_closed() -> None:
    """A listing that is given up for a later start holds nothing open."""
    closed: list[bool] = []

    def listing(start_after: str | None) -> Iterator[StoreObject]:
        try:
            for key in ("2025/01/01/f", "2026/01/01/f"):
                if start_after is None or key > start_after:
                    yield StoreObject(key, "v", 1, 0)
        finally:
            closed.append(True)

    assert [item.key for item, _ in skip_scan(listing, Layout(), lambda _: "2026/01/01")] == ["2026/01/01/f"]
    assert len(closed) == 2


@pytest.mark.parametrize(
    ("glob", "takes", "leaves"),
    [
        ("*.gz", ["f.gz", "a/b/f.gz", ".gz"], ["f.gzip", "f.gz/x"]),
        ("/*.gz", ["f.gz"], ["a/f.gz"]),
        ("a/*.gz", ["a/f.gz"], ["a/b/f.gz", "f.gz", "x/a/f.gz"]),
        ("a/**/*.gz", ["a/f.gz", "a/b/f.gz", "a/b/c/f.gz"], ["f.gz", "b/a/f.gz"]),
        ("errors/**", ["errors/x", "errors/a/b"], ["errors", "an/errors/x"]),
        ("errors/", ["errors/x", "errors/a/b"], ["errors", "an/errors/x"]),
        ("**/errors/**", ["errors/x", "an/errors/x/y"], ["errorsx/y"]),
        ("**", ["x", "a/b"], []),
        ("f?[a-c][!0-9].x", ["f1ax.x", "d/f1cz.x"], ["f1dx.x", "f1a5.x", "f/axx.x", "f1ax-x"]),
        ("[", ["[", "a/["], ["x"]),
        ("a+b(c).gz", ["a+b(c).gz"], ["aab(c).gz"]),
        ("*", ["x\ny", "a/b"], []),
    ],
)
def test_globs(glob: str, takes: list[str], leaves: list[str]) -> None:
    """`*` stays within a part, `**` spans parts, a glob without a slash looks at the last part."""
    selection = Selection([glob])
    assert [key for key in takes if not selection.takes(key)] == []
    assert [key for key in leaves if selection.takes(key)] == []


def test_exclude_wins_over_include() -> None:
    """What is excluded is not taken, whatever includes it; without includes all else is taken."""
    assert Selection().takes("x")
    assert not Selection([], ["*.tmp"]).takes("a/x.tmp")
    assert Selection([], ["*.tmp"]).takes("a/x")
    assert not Selection(["a/**"], ["*.tmp"]).takes("a/x.tmp")
    assert Selection(["*.gz", "*.zst"]).takes("a/x.zst")


def test_a_bad_glob_is_a_config_error() -> None:
    """A range that runs backwards names the glob."""
    with pytest.raises(ConfigError, match="is no glob"):
        Selection(["[z-a]"])
