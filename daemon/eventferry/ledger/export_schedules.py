"""When each schedule of exports last fired: so that a restart neither repeats nor forgets."""

import sqlalchemy as sa

from eventferry.ledger import pull_tables as t

_s = t.export_schedules.c


def fired_ms(tx: sa.Connection, name: str, rhythm: str) -> int | None:
    """The planned time of the schedule's last firing; None where it was never seen with this rhythm."""
    query = sa.select(_s.fired_ms).where(_s.name == name, _s.rhythm == rhythm)
    return tx.execute(query).scalar_one_or_none()


def note_fired(tx: sa.Connection, name: str, rhythm: str, fired_ms: int) -> None:
    """The schedule has fired for that planned time, or is followed from then on."""
    values = {"rhythm": rhythm, "fired_ms": fired_ms}
    if tx.execute(sa.update(t.export_schedules).where(_s.name == name).values(**values)).rowcount == 0:
        tx.execute(sa.insert(t.export_schedules).values(name=name, **values))


def names(tx: sa.Connection) -> set[str]:
    """Every schedule that is known."""
    return set(tx.execute(sa.select(_s.name)).scalars())


def forget(tx: sa.Connection, name: str) -> None:
    """The schedule is no longer configured; one of that name begins anew."""
    tx.execute(sa.delete(t.export_schedules).where(_s.name == name))
