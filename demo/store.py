"""Writes the demo's sample store: a day of analytics events as a stream service leaves them, dirt included."""

import datetime as dt
import gzip
import os
import random
import sys
import uuid
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HOURS = 22
FILES_PER_HOUR = 4
LATE_HOURS = 9  # the late file belongs to the hour that long before the newest

_TEMPLATE = (
    '{"event_type":"%(type)s","event_timestamp":%(at)d,"arrival_timestamp":%(arrived)d,"event_version":"3.1",'
    '"application":{"app_id":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","cognito_identity_pool_id":"eu-west-1:6b1f","sdk":{},'
    '"version_name":""},"client":{"client_id":"%(client)s","cognito_id":"eu-west-1:%(client)s"},'
    '"device":{"locale":{"code":"%(language)s_%(country)s","country":"%(country)s","language":"%(language)s"},'
    '"make":"Blink","model":"Chrome","platform":{"name":"%(platform)s","version":"10"}},'
    '"session":{"session_id":"%(session)s","start_timestamp":%(started)d},'
    '"attributes":{"date":"%(iso)s","session":"%(session)s","pageSession":"%(page)s","url":"https://news.test%(path)s",'
    '"host":"news.test","hash":"","search":"","queryString":"","referer":"%(referer)s","title":"%(title)s",'
    '"network":"https://news.test/","networkId":"1","blog":"https://news.test","blogId":"1","postId":"%(post)d",'
    '"postType":"article","author":"Jo","authorId":"3","loggedIn":"%(known)s","qv_utm_source":"%(campaign)s",'
    '"x-amz-request-id":"%(page)s"},"metrics":{"elapsed":%(elapsed)d,"scrollDepthNow":%(scroll)d,'
    '"scrollDepthMax":%(scroll)d,"hour":%(hour)d,"day":%(day)d,"month":%(month)d,"year":%(year)d},'
    '"endpoint":{"Id":"%(client)s","ApplicationId":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","CohortId":"%(cohort)d",'
    '"EndpointStatus":"ACTIVE","OptOut":"ALL","EffectiveDate":"%(iso)s","Location":{"Country":"%(country)s"},'
    '"Demographic":{"Make":"Blink","Model":"Chrome","ModelVersion":"96","Platform":"%(platform)s"},'
    '"Attributes":{"lastSession":["%(session)s"],"utm_source":["%(campaign)s"]},'
    '"Metrics":{"sessions":%(sessions).1f,"pageViews":%(views).1f}},"awsAccountId":"000000000000"}'
)
_TYPES = ("pageView",) * 7 + ("click",) * 3 + ("_session.start", "_session.stop", "search")
_PLACES = (("en", "GB"), ("en", "US"), ("de", "DE"), ("fr", "FR"), ("pt", "BR"), ("ja", "JP"))
_TITLES = ("Ferries at dawn", "Fähren im Nebel", "Le bac du soir", "Um rio, duas margens", "渡し舟", "Nine harbours")
_CAMPAIGNS = ("news", "search", "", "", "partner")
# What a crash in the middle of a write, a foreign tool and a wrong encoding leave behind.
_BAD_LINES = (
    b'{"event_type":"pageView","event_timestamp":17000000',
    b'["an","array"]',
    b'{"event_type":"pageView","metrics":{"elapsed":NaN}}',
    b'{"event_type":"pageView","attributes":{"title":"F\xe4hre"}}',
    b"-- rotated --",
)


@dataclass(frozen=True)
class SampleFile:
    """One file to write: where, how many events, and what is odd about it."""

    path: Path
    hour: dt.datetime
    events: int
    seed: int
    odd: str = ""  # dirty, crlf, truncated, empty


def plan_store(root: Path, now: dt.datetime, events: int) -> tuple[list[SampleFile], SampleFile]:
    """The files of the last full hours that are there from the beginning, and the one that comes late."""
    newest = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=1)
    oldest = newest - dt.timedelta(hours=HOURS - 1)
    share = events // (HOURS * FILES_PER_HOUR)
    files = [
        _name_file(root, oldest + dt.timedelta(hours=n // FILES_PER_HOUR), share, n)
        for n in range(HOURS * FILES_PER_HOUR)
    ]
    odd = {7: "dirty", 20: "crlf", 31: "dirty", 46: "truncated", 58: "empty", 77: "dirty"}
    files = [SampleFile(f.path, f.hour, f.events, f.seed, odd.get(f.seed, "")) for f in files]
    return files, _name_file(root, newest - dt.timedelta(hours=LATE_HOURS), share, 1000)


def write_files(files: list[SampleFile], processes: int) -> int:
    """Write them all; how many bytes of NDJSON they hold."""
    with ProcessPoolExecutor(processes) as pool:
        return sum(pool.map(write_file, files, chunksize=4))


def add_file(root: Path, now: dt.datetime, events: int) -> Path:
    """One more file of the newest full hour; where it is."""
    newest = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=1)
    file = _name_file(root, newest, events, seed=int(now.timestamp()))
    write_file(file)
    return file.path


def write_file(file: SampleFile) -> int:
    """Write one file, last changed at the end of its hour; how many bytes of NDJSON it holds."""
    content = b"" if file.odd == "empty" else _compose(file)
    packed = gzip.compress(content, compresslevel=1)
    if file.odd == "truncated":
        packed = packed[: len(packed) * 2 // 3]
    file.path.parent.mkdir(parents=True, exist_ok=True)
    aside = file.path.with_name(f".{file.path.name}")
    aside.write_bytes(packed)
    changed = (file.hour + dt.timedelta(hours=1)).timestamp()
    os.utime(aside, (changed, changed))
    aside.rename(file.path)
    return len(content)


def _name_file(root: Path, hour: dt.datetime, events: int, seed: int) -> SampleFile:
    unique = uuid.UUID(int=random.Random(seed).getrandbits(128), version=4)
    name = f"events-1-{hour:%Y-%m-%d-%H}-{seed % FILES_PER_HOUR * 15:02d}-00-{unique}.gz"
    return SampleFile(root / f"{hour:%Y/%m/%d/%H}" / name, hour, events, seed)


def _compose(file: SampleFile) -> bytes:
    rng = random.Random(file.seed)
    lines = [_make_event(rng, file.hour).encode() for _ in range(file.events)]
    if file.odd == "dirty":
        for bad in _BAD_LINES:
            lines.insert(rng.randrange(len(lines)), bad)
        lines.insert(rng.randrange(len(lines)), b"")
    if file.odd == "crlf":
        return b"\xef\xbb\xbf" + b"\r\n".join(lines)  # nor a newline at the end: a text editor was here
    return b"\n".join(lines) + b"\n"


def _make_event(rng: random.Random, hour: dt.datetime) -> str:
    draw = rng.random
    at = int(hour.timestamp() * 1000) + int(draw() * 3_600_000)
    moment = dt.datetime.fromtimestamp(at / 1000, dt.UTC)
    language, country = _PLACES[int(draw() * len(_PLACES))]
    post, visitor = int(draw() ** 3 * 400), int(draw() * 50_000)
    return _TEMPLATE % {
        "type": _TYPES[int(draw() * len(_TYPES))],
        "at": at,
        "arrived": at + 300 + int(draw() * 2000),
        "iso": f"{moment:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z",
        "client": f"3f2c{visitor:08x}-77aa-4c1d-9e{post % 97:02x}-{visitor * 7919:012x}",
        "session": f"{rng.getrandbits(64):016x}",
        "page": f"{rng.getrandbits(96):024x}",
        "started": at - int(draw() * 900_000),
        "language": language,
        "country": country,
        "platform": "windows" if draw() < 0.6 else "android",
        "path": f"/{moment:%Y/%m}/story-{post}/",
        "referer": "https://search.test/" if draw() < 0.3 else "",
        "title": f"{_TITLES[post % len(_TITLES)]} ({post})",
        "post": post,
        "known": "true" if draw() < 0.2 else "false",
        "campaign": _CAMPAIGNS[int(draw() * len(_CAMPAIGNS))],
        "elapsed": int(draw() * 60_000),
        "scroll": int(draw() * 100),
        "hour": moment.hour,
        "day": moment.isoweekday(),
        "month": moment.month,
        "year": moment.year,
        "cohort": visitor % 100,
        "sessions": 1 + visitor % 9,
        "views": 1 + visitor % 40,
    }


if __name__ == "__main__":
    store = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "demo-data" / "store")
    sys.stdout.write(f"{add_file(store, dt.datetime.now(dt.UTC), events=1000)}\n")
