"""What Redshift's complaints mean, most of which come under the one code XX000."""

import re
from collections.abc import Mapping

from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.errors import SinkError
from eventferry.sink.postgresql.sqlstates import Complaint, meaning
from eventferry.sink.safe import safe_text

LOAD_FAILED = re.compile(r"Load into table .* failed", re.S)
_NO_ACCESS = re.compile(
    r"Access ?Denied|Forbidden|status 403|InvalidAccessKeyId|NoSuchBucket|PermanentRedirect|not authorized|"
    r"Unauthorized|AuthorizationHeaderMalformed|is not associated|IAM[ _]role",
    re.I,
)
_CONFLICT = re.compile(r"Serializable isolation violation|\b1023\b|conflict with concurrent transaction", re.I)


def judge(
    said: Complaint, who: str, *, committing: bool = False, remedies: Mapping[str, str] | None = None
) -> SinkError:
    """A complaint of Redshift as an error of the contract."""
    words = f"{who}: {safe_text(said.message, 240)}"
    if _CONFLICT.search(said.message):
        return SinkUnavailable(words, untouched=True)
    if LOAD_FAILED.search(said.message):
        return BatchRejected(words)
    if said.sqlstate and _NO_ACCESS.search(said.message):
        return SinkMisconfigured(
            f"{words}; let the role of iam_role read the bucket of `stage` (s3:GetObject, s3:ListBucket)"
        )
    return meaning(said, who, committing=committing, remedies=remedies)
