"""What an Accept header asks for, whatever it holds."""

from hypothesis import given
from hypothesis import strategies as st

from eventferry.api.dialects.altis_accept import prefers_csv

RANGES = st.sampled_from(["text/csv", "application/json", "text/*", "application/*", "*/*", "image/png", "", ";"])
QUALITIES = st.sampled_from(["", ";q=0", ";q=0.5", ";q=1", "; Q=0.9", ";q=2", ";q=x", ";charset=utf-8;q=0.1"])


@given(st.text())
def test_any_text_is_an_answer(text):
    """No header makes it fail."""
    assert prefers_csv(text) in (True, False)


@given(st.lists(st.tuples(RANGES, QUALITIES).map("".join)))
def test_csv_is_preferred_only_where_it_is_named_or_json_is_barred(parts):
    """Neither */* nor what names JSON means CSV."""
    accept = ", ".join(parts)
    if "text/" not in accept and "=0" not in accept:
        assert not prefers_csv(accept)
