"""The options of the type `redshift`."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from eventferry.sink.books import BOOKS
from eventferry.sink.objects import S3Access, place_of
from eventferry.sink.postgresql.options import ServerOptions

_ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")


def _check_stage(url: str) -> str:
    if place_of(url).kind != "s3":
        raise ValueError("is not in S3, from where alone Redshift loads; expected s3://bucket/prefix")
    return url


def _check_role(role: str) -> str:
    if role != "default" and not all(_ROLE.fullmatch(each) for each in role.split(",")):
        raise ValueError('is not a role; expected arn:aws:iam::123456789012:role/name, or "default"')
    return role


class RedshiftOptions(ServerOptions):
    """Which cluster, which table, where files are staged, and as whom the cluster reads them."""

    stage: Annotated[str, AfterValidator(_check_stage)]
    iam_role: Annotated[str, AfterValidator(_check_role)]
    stage_region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    keep_staged: bool = False
    s3: S3Access | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.place[1] in BOOKS:
            raise ValueError(f"table {self.table!r} is where what was delivered is written down; expected another name")
        for name in (*self.place, *self.columns):
            if name != name.lower():
                raise ValueError(f"{name!r} has capital letters, which Redshift makes small; expected {name.lower()!r}")
        return self
