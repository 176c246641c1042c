"""Asks the demo's warehouse: `python demo/ask.py "select event_type, count(*) from events group by all"`."""

import sys
from pathlib import Path

import duckdb

WAREHOUSE = Path(__file__).resolve().parents[1] / "demo-data" / "warehouse.duckdb"
QUESTION = """
    select country, count(*) as events, count(distinct visitor) as visitors, round(avg(elapsed_ms)) as elapsed_ms
    from events group by country order by events desc
"""

if __name__ == "__main__":
    with duckdb.connect(str(WAREHOUSE), read_only=True) as connection:
        connection.sql(sys.argv[1] if len(sys.argv) > 1 else QUESTION).show()
