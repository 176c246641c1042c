"""The warehouse demo: the sample store goes into a PostgreSQL, which answers four questions as the files do."""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import answers
import database
import run
import store

HERE = Path(__file__).resolve().parent
MARK = 'instance = "demo-warehouse"'


@dataclass(frozen=True)
class Question:
    """Something that people ask a warehouse."""

    name: str
    asked: str
    head: tuple[str, ...]
    sql: str


QUESTIONS = (
    Question("events", "How many events are there?", ("events",), "SELECT count(*) FROM events"),
    Question(
        "hours",
        "How many pages were viewed in each hour?",
        ("hour (UTC)", "page views"),
        """
        SELECT to_char(event_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00') AS hour, count(*)
        FROM events WHERE event_type = 'pageView' GROUP BY hour ORDER BY hour
        """,
    ),
    Question(
        "pages",
        "Which pages were viewed most?",
        ("page", "views"),
        """
        SELECT url, count(*) AS views
        FROM events WHERE event_type = 'pageView' GROUP BY url ORDER BY views DESC, url COLLATE "C" LIMIT 5
        """,
    ),
    Question(
        "places",
        "How many sessions came from where, on what, and how long did they wait?",
        ("country", "platform", "sessions", "ms"),
        """
        SELECT country, platform, count(DISTINCT session), round(avg(elapsed_ms))::int
        FROM events GROUP BY country, platform ORDER BY country COLLATE "C", platform COLLATE "C"
        """,
    ),
)


def main() -> int:
    """Tell the story; 0 where every answer is that of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    place = HERE.parent / "demo-warehouse-data"
    parser.add_argument("--directory", type=Path, default=place, help="where everything is written")
    parser.add_argument("--events", type=int, default=240_000, help="about how many events the sample store holds")
    parser.add_argument("--stay", action="store_true", help="keep the database running until Ctrl-C")
    given = parser.parse_args()
    place = run.Place(given.directory.resolve())
    run.say(f"Everything happens in {run.shorten(place.root)}; it is safe to delete.")
    with database.running_postgres() as dsn:
        prepare(place, dsn)
        run.heading("1  A store with a day of events, and an empty PostgreSQL")
        store.write_file(run.fill_store(place, given.events))
        run.say(f"PostgreSQL {ask(dsn, 'SHOW server_version')[0][0]} is up and empty.")

        run.heading("2  One run takes all there is into the table `events`")
        run.eventferry(place, "once")

        run.heading("3  What people ask, answered by the warehouse and by the files themselves")
        agreed = compare(dsn, answers.answer_all(place.store))

        run.heading("4  The same run again finds nothing to do")
        run.eventferry(place, "once")
        again = ask(dsn, QUESTIONS[0].sql)
        agreed = agreed and again == answers.answer_all(place.store)["events"]
        run.say(f"\n{run.tick(agreed)} {again[0][0]:,} events, each once; every answer equals that of the files.")
        if given.stay:
            stay(dsn)
    return 0 if agreed else 1


def prepare(place: run.Place, dsn: str) -> None:
    """An empty directory with a configuration; what a former demo left is removed, and nothing else."""
    if place.config.is_file() and MARK in place.config.read_text():
        shutil.rmtree(place.root)
    elif place.root.exists() and any(place.root.iterdir()):
        sys.exit(f"{place.root} holds something that this demo did not write; choose another --directory")
    place.store.mkdir(parents=True)
    text = (HERE / "warehouse.toml").read_text()
    place.config.write_text(text.replace("@DATA@", str(place.root)).replace("@DSN@", dsn))


def compare(dsn: str, expected: dict[str, list[answers.Row]]) -> bool:
    """Show each question with its answer; whether all are what the files say."""
    agreed = True
    for question in QUESTIONS:
        found = ask(dsn, question.sql)
        same = found == expected[question.name]
        agreed = agreed and same
        run.say(f"{run.tick(same)} {question.asked}", "bold")
        for line in "\n".join(line.strip() for line in question.sql.strip().splitlines()).splitlines():
            run.say(f"    {line}", "dim")
        show(question.head, found)
        if not same:
            run.say(f"    The files say: {expected[question.name]}")
    return agreed


def ask(dsn: str, sql: str) -> list[answers.Row]:
    """The rows that the warehouse answers."""
    import psycopg

    with psycopg.connect(dsn) as connection:
        return connection.execute(sql).fetchall()


def show(head: tuple[str, ...], rows: list[answers.Row]) -> None:
    """A table; of a long one its beginning and its end."""
    texts = [head, *([shown(each) for each in row] for row in (rows if len(rows) <= 13 else [*rows[:3], *rows[-3:]]))]
    widths = [max(len(row[place]) for row in texts) for place in range(len(head))]
    for number, row in enumerate(texts):
        cells = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        run.say("      " + "   ".join(cells).rstrip(), "dim" if number == 0 else "")
        if len(rows) > 13 and number == 3:
            run.say(f"      … {len(rows) - 6} more …", "dim")
    run.say()


def shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def stay(dsn: str) -> None:
    """Let people ask their own questions."""
    run.say(f'\nAsk your own: psql "{dsn}"; Ctrl-C ends it.')
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        run.say()


if __name__ == "__main__":
    sys.exit(main())
