"""Who asks too often waits; who asks seldom never notices."""

from freezegun import freeze_time

from eventferry.access.rate import Failures, Rate


def test_a_burst_then_the_rate() -> None:
    """As many at once as the burst; then one for each that a minute's share makes room for."""
    with freeze_time("2026-01-01") as frozen:
        rate = Rate(60, burst=3)
        assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 1]
        assert rate.take("b") == 0
        frozen.tick(1)
        assert [rate.take("a") for _ in range(2)] == [0, 1]
        frozen.tick(3600)
        assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 1]


def test_no_more_than_the_rate_over_time() -> None:
    """Ten minutes of asking without pause: the burst and ten minutes' worth."""
    with freeze_time("2026-01-01") as frozen:
        rate, taken = Rate(30), 0
        for _ in range(600):
            taken += sum(rate.take("a") == 0 for _ in range(5))
            frozen.tick(1)
    assert 300 <= taken <= 330


def test_the_wait_that_is_told_is_enough() -> None:
    """Who comes back then is let in; a second before not."""
    with freeze_time("2026-01-01") as frozen:
        rate = Rate(2, burst=1)
        assert rate.take("a") == 0
        wait = rate.take("a")
        assert wait == rate.retry_after("a") == 30
        frozen.tick(wait - 1)
        assert rate.take("a") == 1
        frozen.tick(1)
        assert rate.retry_after("a") == 0
        assert rate.take("a") == 0


def test_only_so_many_are_remembered() -> None:
    """Many addresses cost no memory without bound; the longest unseen is forgotten first."""
    rate = Rate(1, capacity=100)
    assert rate.take("kept") == 0
    for number in range(1000):
        rate.take(f"other-{number}")
        assert rate.take("kept") > 0 or number >= 99
    assert len(rate) == 100


def test_failures_count_by_network() -> None:
    """An IPv4 address however it is written; of IPv6 the customer's network."""
    with freeze_time("2026-01-01") as frozen:
        failures = Failures(2)
        assert failures.note("192.0.2.1") == failures.note("::ffff:192.0.2.1") == 0
        assert failures.retry_after("192.0.2.1") > 0
        assert failures.note("192.0.2.1") > 0
        assert failures.retry_after("192.0.2.2") == 0
        assert failures.note("2001:db8::1") == failures.note("2001:db8::2") == 0
        assert failures.note("2001:db8:0:0:ffff::") > 0
        assert failures.note("2001:db8:0:1::1") == 0
        assert failures.note("") == failures.note("no address") == 0
        frozen.tick(60)
        assert failures.note("192.0.2.1") == 0
