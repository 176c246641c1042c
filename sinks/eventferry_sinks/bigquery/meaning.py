"""Says what BigQuery's answers mean for a batch: from the reasons in its errors to the errors of the contract."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_LATER = {
    "backendError", "badGateway", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded",
    "quotaExceeded", "rateLimitExceeded", "stopped", "tableUnavailable", "timeout", "userRateLimitExceeded",
}  # fmt: skip
_FOR_A_PERSON = {
    "accessDenied", "authError", "billingNotEnabled", "billingTierLimitExceeded", "blocked", "forbidden",
    "invalidUser", "notFound", "notImplemented", "policyViolation", "required",
}  # fmt: skip
_TOO_LARGE = {"requestTooLarge", "resourcesExceeded", "responseTooLarge", "uploadTooLarge"}
# Which the table is not as it was when the sink was opened: no event would do.
_SCHEMA = re.compile(
    r"no such field|schema does not match|schema has no fields|missing required field|not found: (table|dataset)"
    r"|added in the table schema|schema update",
    re.I,
)
# What BigQuery quotes of an event: `Could not convert value 'string_value: "x"' to integer. Field: n; Value: x`.
_PAYLOAD = re.compile(r"""'[^']*'|"[^"]*"|\bvalue:? [^.;]*|\bsaw:? .*|\bcould not parse .*""", re.I)
_ADVICE = {
    "quotaExceeded": "; larger and fewer batches take less of the quota: raise batch.max_wait",
    "accessDenied": "; grant the roles that the README of this type names",
    "billingNotEnabled": "; enable billing for the project",
}


def meaning_of_call(
    who: str, code: int, errors: Iterable[Mapping[str, Any]], message: str, retry_after: float | None
) -> SinkError:
    """What a refused request means: nothing of it took effect unless the status is 500 or more."""
    first = next(iter(errors), {})
    reason = str(first.get("reason", ""))
    said = f"{who}: {words_of(first.get('message') or message)} ({reason or code}){_ADVICE.get(reason, '')}"
    if code == 413 or reason in _TOO_LARGE:
        return BatchTooLarge(said)
    if code >= 500:
        return SinkUnavailable(said, retry_after=retry_after)
    if code in (408, 409, 412, 429) or reason in _LATER:
        return SinkUnavailable(said, retry_after=retry_after, untouched=code != 408)
    return SinkMisconfigured(said)


def meaning_of_job(who: str, result: Mapping[str, Any], errors: Iterable[Mapping[str, Any]]) -> SinkError:
    """What a load job that ended in vain means: a job takes all or nothing, so nothing was taken."""
    reason = str(result.get("reason", ""))
    # The result says that there were too many errors; the list says which. Its last entries repeat the result.
    details = [each for each in errors if each.get("message") != result.get("message")]
    exact = next((each for each in details if "position" in str(each.get("message"))), result)
    said = f"{who}: {words_of(exact.get('message'))} ({reason}){_ADVICE.get(reason, '')}"
    everything = " ".join(str(each.get("message", "")) for each in (result, *details))
    if reason in _TOO_LARGE:
        return BatchTooLarge(said)
    if reason in _LATER:
        return SinkUnavailable(said, untouched=True)
    if reason in _FOR_A_PERSON or _SCHEMA.search(everything):
        return SinkMisconfigured(f"{said}; the table is not as it was: eventferry looks at it anew when it tries again")
    return BatchRejected(said)


def meaning_of_rows(who: str, found: Iterable[Mapping[str, Any]], events: int) -> SinkError | dict[int, str]:
    """The refused positions with BigQuery's words; an error where no event of any batch would be taken."""
    reasons: dict[int, str] = {}
    for each in found:
        problems = [one for one in each.get("errors", ()) if one.get("reason") != "stopped"]
        first = problems[0] if problems else {}
        if first.get("reason") in _LATER:
            return SinkUnavailable(f"{who}: {words_of(first.get('message'))} ({first.get('reason')})")
        reasons[int(each["index"])] = f"{words_of(first.get('message'))} ({first.get('reason', 'unknown')})"
    if len(reasons) == events and all(_SCHEMA.search(each) for each in reasons.values()):
        return SinkMisconfigured(f"{who}: {next(iter(reasons.values()))}; the table is not as it was")
    return reasons


def words_of(message: Any) -> str:
    """BigQuery's words without what they quote of an event."""
    return safe_text(_PAYLOAD.sub("…", str(message or "no reason was given")), 300)
