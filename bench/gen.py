"""Writes a deterministic store of gzipped NDJSON: python bench/gen.py OUT --profile pinpoint|flat|tiny|dirty --mb N.

Beside the folder it leaves OUT.json with what is true of it: files, bytes, lines, events, bad, blank.
"""

import argparse
import datetime as dt
import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_MS = 1_700_000_000_000
CITIES = ("London", "München", "São Paulo", "Leeds", "Kraków", "Porto", "東京", "Berlin")
CITY_WEIGHTS = (30, 8, 8, 12, 8, 10, 10, 14)
PAGES = ("/", "/pricing/", "/blog/how-we-count/", "/docs/getting-started/", "/contact/", "/news/2023/11/launch/")
BROWSERS = (("Blink", "Chrome", "118"), ("Gecko", "Firefox", "119"), ("WebKit", "Safari", "17"))
TYPES = ("pageView", "click", "_session.start", "_session.stop", "video.play")
BAD_LINES = (
    b'{"event_type":"pageView","event_timestamp":17000',
    b'{"event_type":"click","metrics":{"elapsed":NaN}}',
    b'{"event_type":"click","attributes":{"title":"\xff\xfe"}}',
    b'["not","an","object"]',
    b'{"event_type":"a"}{"event_type":"b"}',
    b'{"event_type":"\\ud800"}',
    b"<html>502 Bad Gateway</html>",
)


def pinpoint(rng: random.Random, at: int) -> dict[str, Any]:
    """A nested event of about 1.4 KB, as Pinpoint's event stream delivers it."""
    client, cognito, request, session, page_session = (str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(5))
    engine, browser, version = rng.choice(BROWSERS)
    page, event_type = rng.choice(PAGES), rng.choice(TYPES)
    instant = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
    iso = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "event_type": event_type,
        "event_timestamp": at,
        "arrival_timestamp": at + rng.randrange(3000),
        "event_version": "3.1",
        "application": {"app_id": "0a1b2c3d4e5f", "cognito_identity_pool_id": "eu-west-1:" + client, "sdk": {}},
        "client": {"client_id": client, "cognito_id": "eu-west-1:" + cognito},
        "device": {
            "locale": {"code": "en_gb", "country": "GB", "language": "en"},
            "make": engine,
            "model": browser,
            "platform": {"name": rng.choice(("windows", "macos", "android", "ios")), "version": "10"},
        },
        "session": {"session_id": session, "start_timestamp": at - rng.randrange(600_000)},
        "attributes": {
            "date": iso,
            "session": session,
            "pageSession": page_session,
            "url": "https://example.test" + page,
            "host": "example.test",
            "queryString": rng.choice(("", "?utm_source=news", "?q=export")),
            "referer": rng.choice(("", "https://search.test/", "https://news.test/item")),
            "title": page.strip("/").replace("-", " ").title() or "Home",
            "blogId": str(rng.randrange(1, 9)),
            "postId": str(rng.randrange(1, 4000)),
            "loggedIn": rng.choice(("true", "false")),
            "x-amz-request-id": request,
        },
        "metrics": {"elapsed": rng.randrange(60_000), "scrollDepthMax": rng.randrange(101), "hour": instant.hour},
        "endpoint": {
            "Id": client,
            "EndpointStatus": "ACTIVE",
            "OptOut": "ALL",
            "EffectiveDate": iso,
            "Location": {"Country": "GB", "City": rng.choices(CITIES, CITY_WEIGHTS)[0]},
            "Demographic": {"Make": engine, "Model": browser, "ModelVersion": version, "Locale": "en_gb"},
            "Attributes": {"lastSession": [session], "utm_source": ["news"]},
            "Metrics": {"sessions": float(rng.randrange(1, 40)), "pageViews": float(rng.randrange(1, 400))},
        },
        "awsAccountId": "000000000000",
    }


def flat(rng: random.Random, at: int) -> dict[str, Any]:
    """A flat event of about 400 B with an ISO-8601 timestamp."""
    instant = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
    return {
        "id": str(uuid.UUID(int=rng.getrandbits(128))),
        "timestamp": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": rng.choice(("purchase", "view", "search", "refund")),
        "customer": f"c{rng.randrange(100_000):06d}",
        "country": rng.choice(("GB", "DE", "PL", "JP", "BR")),
        "city": rng.choices(CITIES, CITY_WEIGHTS)[0],
        "product": f"sku-{rng.randrange(5000):05d}",
        "basket": f"{rng.getrandbits(64):016x}",
        "category": rng.choice(("books", "garden", "music", "kitchen")),
        "price": round(rng.random() * 200, 2),
        "quantity": rng.randrange(1, 9),
        "currency": rng.choice(("GBP", "EUR", "USD")),
        "coupon": rng.choice((None, "WELCOME10", "SPRING")),
        "mobile": rng.random() < 0.6,
        "store": f"store-{rng.randrange(60):03d}",
        "latency": rng.randrange(2000),
        "referer": rng.choice(("", "https://search.test/?q=tea", "https://news.test/item")),
        "session": f"{rng.getrandbits(64):016x}",
    }


def drifting(rng: random.Random, at: int) -> dict[str, Any]:
    """A flat event whose fields change their type, as hand-made trackers do."""
    event = flat(rng, at)
    if rng.random() < 0.01:
        event["price"] = str(event["price"])
        event["timestamp"] = rng.choice((None, "", at, at / 1000, "yesterday", [at]))
    return event


MAKERS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "pinpoint": pinpoint,
    "flat": flat,
    "tiny": pinpoint,
    "dirty": drifting,
}


def lines(profile: str, rng: random.Random, step_ms: int, books: dict[str, int]) -> Iterator[bytes]:
    """Endless lines with their newline; what each one is goes into `books`."""
    make, at = MAKERS[profile], START_MS
    dirty = profile == "dirty"
    while True:
        at += rng.randrange(2 * step_ms)
        books["lines"] += 1
        draw = rng.random() if dirty else 1.0
        if draw < 0.0008:
            books["bad"] += 1
            yield rng.choice(BAD_LINES) + b"\n"
        elif draw < 0.001:
            books["blank"] += 1
            yield rng.choice((b"\n", b"  \t\n", b"\r\n"))
        else:
            books["events"] += 1
            yield json.dumps(make(rng, at), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def key_of(number: int, at: int, rng: random.Random) -> str:
    """The key that Firehose would give the file: the hour in UTC, then stream, instant and a UUID."""
    instant = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
    unique = uuid.UUID(int=rng.getrandbits(128))
    return f"{instant:%Y/%m/%d/%H}/events-3-{instant:%Y-%m-%d-%H-%M-%S}-{number:06d}-{unique}.gz"


def write(out: Path, profile: str, megabytes: float, seed: int = 7) -> dict[str, int]:
    """Write the store and return its books."""
    rng = random.Random(f"{profile}/{seed}")
    books = dict.fromkeys(("files", "bytes", "lines", "events", "bad", "blank"), 0)
    source = lines(profile, rng, 400, books)
    wanted, at = int(megabytes * 1e6), START_MS
    file_bytes, file_lines = (10**12, 50) if profile == "tiny" else (12_000_000, 10**12)
    while books["bytes"] < wanted:
        body: list[bytes] = []
        size = 0
        while size < min(file_bytes, wanted - books["bytes"]) and len(body) < file_lines:
            body.append(next(source))
            size += len(body[-1])
        path = out / key_of(books["files"], at, rng)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"".join(body), 6, mtime=0))
        books["files"] += 1
        books["bytes"] += size
        at += len(body) * 400
    return books


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", choices=sorted(MAKERS), default="pinpoint")
    parser.add_argument("--mb", type=float, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    books = write(options.out, options.profile, options.mb, options.seed)
    text = json.dumps({"profile": options.profile, "seed": options.seed, **books})
    options.out.with_name(options.out.name + ".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
