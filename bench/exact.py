"""Exports counted by somebody else: python bench/exact.py [--events N] [--filters N] [--seed N] [--work DIR].

Makes a store of generated events, exports those that satisfy random filters and time ranges in a format by turns, and
has DuckDB find the same events in the raw files by SQL that knows nothing of eventferry. Exit 1 where the two differ in
number, times or ids.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
Condition = tuple[dict[str, Any], str]  # as the native form has it, and as SQL over the column `json`
FORMATS = ("csv", "ndjson", "parquet")


def text(path: str) -> str:
    return f"json_extract_string(json, '$.{path}')"


def number(path: str) -> str:
    return f"CAST(json_extract(json, '$.{path}') AS DOUBLE)"


def conditions(rng: random.Random, first_ms: int, last_ms: int) -> list[Callable[[], Condition]]:
    """Ways to make one condition, each in both languages."""

    def equal() -> Condition:
        path, value = rng.choice(
            (("device.platform.name", "ios"), ("attributes.loggedIn", "true"), ("attributes.queryString", ""))
        )
        return {"field": path, "eq": value}, f"{text(path)} = '{value}'"

    def unequal() -> Condition:
        value = rng.choice(("Firefox", "Chrome", "Netscape"))
        return {"field": "device.model", "ne": value}, f"{text('device.model')} IS DISTINCT FROM '{value}'"

    def among() -> Condition:
        values = [str(rng.randrange(1, 9)) for _ in range(3)]
        listed = ", ".join(f"'{value}'" for value in values)
        return {"field": "attributes.blogId", "in": values}, f"{text('attributes.blogId')} IN ({listed})"

    def ordered() -> Condition:
        op, sign = rng.choice((("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")))
        limit = rng.randrange(101)
        path = "metrics.scrollDepthMax"
        return {"field": path, op: limit}, f"{number(path)} {sign} {limit}"

    def part() -> Condition:
        op, function = rng.choice(
            (("contains", "contains"), ("starts_with", "starts_with"), ("ends_with", "ends_with"))
        )
        value = rng.choice(("https://example.test", "a", "/", "export"))
        return {"field": "attributes.url", op: value}, f"{function}({text('attributes.url')}, '{value}')"

    def there() -> Condition:
        path = rng.choice(("metrics.elapsed", "endpoint.Location", "attributes.nowhere"))
        return {"field": path, "exists": True}, f"json_extract(json, '$.{path}') IS NOT NULL"

    def denied() -> Condition:
        native, sql = equal()
        return {"not": native}, f"({sql}) IS NOT TRUE"

    def either() -> Condition:
        (one, first), (other, second) = ordered(), among()
        return {"or": [one, other]}, f"(({first}) OR ({second}))"

    return [equal, unequal, among, ordered, part, there, denied, either]


def choose(rng: random.Random, first_ms: int, last_ms: int) -> tuple[list[dict[str, Any]], list[str], int, int]:
    """A filter, the same in SQL, and a time range."""
    made = [way() for way in rng.sample(conditions(rng, first_ms, last_ms), rng.randrange(1, 4))]
    start, end = sorted(rng.randrange(first_ms - 1000, last_ms + 1000) for _ in range(2))
    return [native for native, _ in made], [sql for _, sql in made], start, end + 1


def in_export(db: Any, folder: Path, format_: str) -> tuple[Any, ...]:
    """Number, sum of times and sum of hashed ids of the events in the files of an export."""
    time_, id_ = '"event_timestamp"', '"attributes.x-amz-request-id"'
    files = f"{folder}/part-*"
    if not list(folder.glob("part-*")):
        return (0, None, None)
    if format_ == "csv":
        source = f"read_csv('{files}', all_varchar=true, header=true, union_by_name=true, max_line_size=10000000)"
    elif format_ == "parquet":
        source = f"read_parquet('{files}', union_by_name=true)"
    else:
        source, time_, id_ = (
            f"read_ndjson_objects('{files}')",
            number("event_timestamp"),
            text('attributes."x-amz-request-id"'),
        )
    columns = {row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    if format_ != "ndjson" and "event_timestamp" not in columns:
        return (db.execute(f"SELECT count(*) FROM {source}").fetchone()[0], None, None)
    return tuple(db.execute(summed(source, time_, id_)).fetchone())


def in_store(db: Any, wanted: list[str], start: int, end: int) -> tuple[Any, ...]:
    """The same of the raw events that satisfy the SQL."""
    at = number("event_timestamp")
    where = " AND ".join([f"({each})" for each in wanted] + [f"{at} >= {start}", f"{at} < {end}"])
    return tuple(db.execute(summed("raw", at, text('attributes."x-amz-request-id"'), where)).fetchone())


def summed(source: str, time_: str, id_: str, where: str = "true") -> str:
    return (
        f"SELECT count(*), CAST(sum(CAST({time_} AS HUGEINT)) AS VARCHAR), "
        f"CAST(sum(CAST(hash(CAST({id_} AS VARCHAR)) AS HUGEINT)) AS VARCHAR) FROM {source} WHERE {where}"
    )


def export(name: str, work: Path, config: Any, ledger: Any, selection: Any, format_: str) -> tuple[Any, float]:
    """Make one export as the daemon does, in a process of its own; what was made, and in how many seconds."""
    from eventferry import clock
    from eventferry.execution import make_executor
    from eventferry.exports.model import Output
    from eventferry.exports.plan import plan, readables
    from eventferry.exports.planned import write_plan
    from eventferry.exports.task import PLAN, TaskSpec, run_export

    sources = readables(ledger, config.sources)
    spec = TaskSpec(name, work / "exports", tuple(sources.values()), selection, Output(format_), 10**9)
    spec.work.mkdir(parents=True)
    write_plan(spec.work / PLAN, plan(ledger, sources, selection, spec.as_of, clock.now_ms()))
    began = time.perf_counter()
    with make_executor(1) as executor:
        made = executor.submit(run_export, spec).result()
    return made, time.perf_counter() - began


def main() -> int:
    import duckdb
    import exports

    from eventferry.exports.model import Selection
    from eventferry.query import parse_filter

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--filters", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    work = options.work or Path(tempfile.mkdtemp(prefix="eventferry-exact-"))
    different = 0
    try:
        exports.generate(work / "store", options.events)
        config, ledger = exports.index(work / "store", work)
        db = duckdb.connect()
        db.execute(f"SET memory_limit = '4GB'; SET temp_directory = '{work / 'duckdb'}'")
        db.execute(f"CREATE TABLE raw AS SELECT json FROM read_ndjson_objects('{work}/store/**/*.gz')")
        at = number("event_timestamp")
        first, last = db.execute(f"SELECT min({at}), max({at}) FROM raw").fetchone()
        print(f"{options.events:,} events, seed {options.seed}")
        for turn in range(options.filters):
            filter_, sql, start, end = choose(rng, int(first), int(last))
            format_ = FORMATS[turn % len(FORMATS)]
            selection = Selection(filter=parse_filter(filter_), start_ms=start, end_ms=end)
            made, seconds = export(f"export-{turn}", work, config, ledger, selection, format_)
            ours, theirs = in_export(db, work / "exports" / f"export-{turn}", format_), in_store(db, sql, start, end)
            right = made.events == theirs[0] and (ours == theirs or not theirs[0])
            different += not right
            print(
                f"{'same     ' if right else 'DIFFERENT'} {format_:8}{theirs[0]:>10,} {seconds:6.1f} s  {filter_}",
                flush=True,
            )
            if not right:
                print(f"          export says {made.events:,}, its files {ours}, the store {theirs}")
            shutil.rmtree(work / "exports")
        ledger.close()
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print("all the same" if not different else f"{different} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
