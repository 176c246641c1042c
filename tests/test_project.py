"""What holds for the project as a whole: its packages, its layers, its lock files, its promises about itself."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from eventferry.sink.registry import load_sink_type

CHECKOUT = Path(__file__).resolve().parents[1]
DAEMON, SINKS = CHECKOUT / "daemon" / "eventferry", CHECKOUT / "sinks" / "eventferry_sinks"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
SINK_TYPES = sorted(path.parent.name for path in SINKS.glob("*/__init__.py"))
MODULES = sorted([*DAEMON.rglob("*.py"), *SINKS.rglob("*.py")])
LOCKS = sorted((CHECKOUT / "requirements").glob("*.txt"))

WEB_FRAMEWORKS = {"fastapi", "starlette", "flask", "django", "uvicorn", "aiohttp", "jinja2", "werkzeug", "httpx"}
LONGEST_MODULE = 320
# Modules that are longer, and why they are one thing all the same.
LONG_FOR_A_REASON: dict[str, str] = {}


def run(*command: str | Path, **environment: str) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def where(path: Path) -> str:
    """A path as a reader of the checkout knows it."""
    return path.relative_to(CHECKOUT).as_posix()


# -- packages ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, which so is proven to be complete."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        # Our own archive; `filter` came with 3.11.4.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    source = folder / packed.name.removesuffix(".tar.gz")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=source, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel unpacked, as pip would."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_has_exactly_two_top_level_packages(wheel: Path) -> None:
    """Nothing generic lands in site-packages: no tests, no `sinks`, no `daemon`."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"eventferry", "eventferry_sinks"}


def test_the_wheel_brings_the_units(wheel: Path) -> None:
    """Who installs with pip has no checkout: units and account lie below share/, arranged as below /etc."""
    with zipfile.ZipFile(wheel) as archive:
        found = {
            n.partition(".data/data/")[2]: archive.read(n).decode() for n in archive.namelist() if ".data/data/" in n
        }
    at = "share/eventferry/etc"
    units = {path.name: path.read_text() for path in (CHECKOUT / "systemd").glob("*.service")}
    assert len(units) >= 2
    assert found == {
        **{f"{at}/systemd/system/{name}": text for name, text in units.items()},
        f"{at}/sysusers.d/eventferry.conf": (CHECKOUT / "systemd" / "eventferry.sysusers").read_text(),
    }


def test_an_installed_wheel_works_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    """The example configuration, the migrations and the sink types are in the wheel."""
    program = (
        "import eventferry, sys\n"
        "from pathlib import Path\n"
        "from eventferry.config.template import example_text\n"
        "from eventferry.ledger import open_ledger\n"
        "open_ledger(Path(sys.argv[1]) / 'ledger.db', migrate=True).close()\n"
        "print(eventferry.__file__)\n"
        "sys.stdout.write(example_text())\n"
    )
    out = run(sys.executable, "-P", "-c", program, tmp_path, PYTHONPATH=str(installed))
    origin, _, example = out.partition("\n")
    assert Path(origin).is_relative_to(installed)
    assert example == (CHECKOUT / "config.example.toml").read_text()
    assert (tmp_path / "ledger.db").stat().st_size > 0


# -- sink types -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINK_TYPES)
def test_every_sink_type_is_complete(name: str) -> None:
    """A type is a sink.py, a README, an entry point, a contract test and a block in the example, all of one name."""
    assert (SINKS / name / "sink.py").is_file()
    readme = (SINKS / name / "README.md").read_text()
    assert "experimental" in readme.lower() or f'# type = "{name}"' in (CHECKOUT / "config.example.toml").read_text()
    assert PROJECT["project"]["entry-points"]["eventferry.sinks"][name].startswith(f"eventferry_sinks.{name}.sink:")
    assert (CHECKOUT / "tests" / "contract" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("name", PROJECT["project"]["entry-points"]["eventferry.sinks"])
def test_every_entry_point_loads(name: str) -> None:
    """Each declared type is installed under its name and is a sink type of this version's contract."""
    assert name in {each.name for each in entry_points(group="eventferry.sinks")}
    assert load_sink_type(name).__module__ == f"eventferry_sinks.{name}.sink"
    assert name in SINK_TYPES


# -- what is imported -------------------------------------------------------------------------------------------------


def imported_by(statement: str) -> set[str]:
    """The top-level packages in a fresh interpreter after a statement."""
    out = run(sys.executable, "-c", f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})")
    return set(out.split())


def test_the_core_imports_no_web_framework() -> None:
    """Not even with every module of the daemon imported (the pull side's own excepted)."""
    names = [".".join(path.relative_to(DAEMON.parent).with_suffix("").parts) for path in DAEMON.rglob("*.py")]
    apart = re.compile(r"eventferry\.(api|console)\b|\.migrations\.|__main__")
    wanted = ", ".join(sorted(name.removesuffix(".__init__") for name in names if not apart.search(name)))
    assert imported_by(f"import {wanted}") & WEB_FRAMEWORKS == set()


def test_index_workers_stay_small() -> None:
    """A spawned worker imports the scanner alone: neither SQLAlchemy nor DuckDB nor pydantic, each 20 MB and 0.2 s."""
    heavy = {"sqlalchemy", "duckdb", "pydantic", "alembic", "rich", "typer", "apscheduler", "requests", "boto3"}
    assert imported_by("import eventferry.pipeline.scan") & heavy == set()


def test_the_layers_hold() -> None:
    """What import-linter checks in `make lint` is part of the tests, so that nobody merges around it."""
    run(Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache", "--no-logo")


def test_help_answers_at_once() -> None:
    """`eventferry --help` costs less than 0.3 s of processor time, so that shells may complete with it."""
    costs = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-m", "eventferry", "--help"], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert b"status" in process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        # Not the time on the wall: what else the machine does meanwhile is not our doing.
        costs.append(used.ru_utime + used.ru_stime)
    assert min(costs) < 0.3, costs


# -- code -------------------------------------------------------------------------------------------------------------


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain, "" of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def uses(path: Path, pattern: str) -> Iterator[str]:
    """The places in a module where a dotted name or an imported name matches."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute():
                names = [dotted(node)]
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            case _:
                continue
        yield from (f"{where(path)}:{node.lineno}: {name}" for name in names if re.search(pattern, name))


def test_only_the_clock_reads_time() -> None:
    """Everything else asks eventferry.clock, which tests can set."""
    pattern = (
        r"\bdatetime\.(now|utcnow|today)$|\bdate\.today$|^time(\.|$)|\bperf_counter|\btime\.(time|monotonic|sleep)"
    )
    modules = [path for path in MODULES if path != DAEMON / "clock.py"]
    assert [use for path in modules for use in uses(path, pattern)] == []


def test_only_the_ledger_writes_sql() -> None:
    """Others hold a connection to name it in a signature; statements and tables are the ledger's."""
    pattern = r"^(sa|sqlalchemy)\.(?!Connection$|Engine$|exc\b)\w|ledger\.tables\b"
    modules = [path for path in DAEMON.rglob("*.py") if DAEMON / "ledger" not in path.parents]
    assert [use for path in sorted(modules) for use in uses(path, pattern)] == []


def test_modules_are_short() -> None:
    """A module that outgrows what a person takes in at once is split, or says here why not."""
    migrations = DAEMON / "ledger" / "migrations"
    lengths = {where(path): len(path.read_text().splitlines()) for path in MODULES if migrations not in path.parents}
    long = {name for name, length in lengths.items() if length > LONGEST_MODULE}
    assert long == set(LONG_FOR_A_REASON)


# -- files ------------------------------------------------------------------------------------------------------------


def committed() -> list[Path]:
    """Every text file that is, or would be, committed."""
    try:
        listed = run("git", "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    except (AssertionError, FileNotFoundError):
        pytest.skip("not a git checkout")
    return [CHECKOUT / name for name in listed if name and (CHECKOUT / name).is_file()]


def test_nothing_committed_names_a_workplace() -> None:
    """No directory of whoever wrote it, no package index of theirs."""
    private = re.compile(rb"(?<![\w.])/(work|workspace|builds|Users)/|--(extra-)?index-url[ =]|--find-links[ =]")
    found = [
        f"{where(path)}: {match[0].decode()}"
        for path in committed()
        for match in [private.search(path.read_bytes())]
        if match
    ]
    assert found == []


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_lock_files_pin_everything_and_name_no_place(path: Path) -> None:
    """Each line is `name==version`, perhaps with a marker, and hashes; from where is the installer's affair."""
    text = path.read_text()
    assert not re.search(r"://|^-|@", text, re.MULTILINE)
    entries = [entry for entry in re.split(r"(?m)^(?=\S)", text) if entry]
    assert len(entries) > 5
    for entry in entries:
        first, *rest = entry.rstrip().split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.!+]+( ; [\w .'<>=!()]+)?", first), first
        assert rest, f"{first} has no hash"
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in rest), first


def pins(path: Path) -> dict[str, str]:
    """Name → version of a lock file."""
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", path.read_text()))


def test_lock_files_agree_and_are_complete() -> None:
    """What is tested is what is installed: one version everywhere, and every direct dependency is there."""
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {
        "core": (),
        "demo": ("duckdb",),
        "warehouse": ("postgres", "warehouse"),
        "full": ("s3", "duckdb", "notify"),
        "dev": ("s3", "duckdb", "notify", "dev"),
    }
    alone = {"chdb", "snowflake"}  # what stands for servers in tests, in environments of their own
    assert {path.stem for path in LOCKS} == set(wanted) | alone
    tested = pins(CHECKOUT / "requirements" / "dev.txt")
    for name, chosen in wanted.items():
        locked = pins(CHECKOUT / "requirements" / f"{name}.txt")
        assert locked.items() <= tested.items()
        direct = [*PROJECT["project"]["dependencies"], *(each for extra in chosen for each in extras[extra])]
        names = {re.split(r"[\[<>=!; ]", each)[0].lower().replace(".", "-") for each in direct} - {"eventferry"}
        assert names | {"hatchling", "editables"} <= set(locked), f"{name}.txt is out of date: make lock"
