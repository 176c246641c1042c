"""The keyring: one file, several processes, secrets that come and go."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventferry.access.keyring import Keyring, KeyringError


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


def sign_at_once(
    folder: str, barrier: "multiprocessing.synchronize.Barrier", answers: "multiprocessing.Queue[str]"
) -> None:
    barrier.wait()
    answers.put(Keyring(Path(folder)).sign("link", b"x"))


def test_it_makes_its_file_at_the_first_use_for_its_user_alone(ring: Keyring) -> None:
    """Not before: reading the configuration leaves nothing behind."""
    assert not ring.path.exists()
    assert ring.verify("link", ring.sign("link", b"x"), b"x")
    assert ring.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in ring.path.parent.iterdir()] == ["keyring.json"]


def test_processes_that_start_at_once_have_the_same_secret(tmp_path: Path) -> None:
    """Daemon and server race for the first use."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=sign_at_once, args=(str(tmp_path), barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    said = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(20)
    assert said == {Keyring(tmp_path).sign("link", b"x")}


def test_a_signature_is_for_one_purpose_and_one_payload(ring: Keyring) -> None:
    """What was signed as a link is no session."""
    signed = ring.sign("link", b"x")
    assert not ring.verify("session", signed, b"x")
    assert not ring.verify("link", signed, b"y")
    assert not ring.verify("link", signed, b"x\0")
    assert ring.sign("session", b"x") != signed


def test_every_flipped_bit_of_a_signature_is_refused(ring: Keyring) -> None:
    """The last character too, whose last bits base64 does not use."""
    signed = ring.sign("link", b"x").encode()
    for at in range(len(signed)):
        for bit in range(8):
            changed = bytearray(signed)
            changed[at] ^= 1 << bit
            assert not ring.verify("link", changed.decode("latin-1"), b"x")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.text())
def test_no_text_is_a_signature_by_chance(ring: Keyring, junk: str) -> None:
    """None crashes either."""
    assert not ring.verify("link", junk, b"x")


def test_what_is_encrypted_comes_back_in_its_own_context_only(ring: Keyring) -> None:
    """Credentials of one export are of no use for another."""
    sealed = ring.encrypt("store-credentials", b"export-1", b"the secret")
    assert b"the secret" not in sealed
    assert ring.decrypt("store-credentials", b"export-1", sealed) == b"the secret"
    assert ring.encrypt("store-credentials", b"export-1", b"the secret") != sealed
    for purpose, context in (("store-credentials", b"export-2"), ("other", b"export-1")):
        with pytest.raises(KeyringError, match="altered, or belongs to something else"):
            ring.decrypt(purpose, context, sealed)


def test_every_changed_or_missing_byte_of_a_cipher_text_is_found(ring: Keyring) -> None:
    """Head, nonce, text and tag."""
    sealed = ring.encrypt("store-credentials", b"export-1", b"the secret")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for wrong in [*changed, *(sealed[:at] for at in range(len(sealed))), sealed + b"x"]:
        with pytest.raises(KeyringError):
            ring.decrypt("store-credentials", b"export-1", wrong)


def test_another_process_sees_a_rotation_at_once(ring: Keyring, tmp_path: Path) -> None:
    """The newest secret signs, the older ones still verify and decrypt."""
    other = Keyring(tmp_path)
    old, sealed = ring.sign("link", b"x"), ring.encrypt("c", b"", b"data")
    assert other.verify("link", old, b"x")
    new = other.rotate()
    assert ring.sign("link", b"x").startswith(new)
    assert not old.startswith(new)
    assert ring.verify("link", old, b"x")
    assert ring.decrypt("c", b"", sealed) == b"data"


def test_forgetting_voids_what_the_older_secrets_made(ring: Keyring, tmp_path: Path) -> None:
    """For the day on which the file got into wrong hands."""
    old, sealed = ring.sign("link", b"x"), ring.encrypt("c", b"", b"data")
    Keyring(tmp_path).rotate(forget=True)
    assert not ring.verify("link", old, b"x")
    with pytest.raises(KeyringError, match="no longer"):
        ring.decrypt("c", b"", sealed)


def test_a_secret_goes_thirty_days_after_its_successor_came(ring: Keyring) -> None:
    """However long it was in use before."""
    with freeze_time("2026-01-01") as frozen:
        first = ring.sign("link", b"x")
        frozen.move_to("2026-06-01")
        ring.rotate()
        second = ring.sign("link", b"x")
        frozen.move_to("2026-06-30")
        ring.rotate()
        assert ring.verify("link", first, b"x")
        frozen.move_to("2026-07-02")
        ring.rotate()
        assert not ring.verify("link", first, b"x")
        assert ring.verify("link", second, b"x")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b'{"keys": []}', b'{"keys": [{"id": "x"}]}', b"\xff\xfe", b"[" * 70_000),
        json.dumps({"keys": [{"id": "12345678", "secret": "00", "created_ms": 1}]}).encode(),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(ring: Keyring, content: bytes) -> None:
    """It is not replaced silently: links and credentials hang on it."""
    ring.path.write_bytes(content)
    ring.path.chmod(0o600)
    for use in (lambda: ring.sign("link", b"x"), ring.rotate):
        with pytest.raises(KeyringError, match="is damaged; restore it"):
            use()
    assert ring.path.read_bytes() == content


def test_a_file_that_others_can_read_is_refused(ring: Keyring) -> None:
    """Its secrets may be known already."""
    ring.sign("link", b"x")
    ring.path.chmod(0o640)
    with pytest.raises(KeyringError, match="mode 640"):
        Keyring(ring.path.parent).sign("link", b"x")


def test_a_folder_in_its_place_is_refused(ring: Keyring) -> None:
    """Whatever it is, it is not ours."""
    ring.path.mkdir()
    with pytest.raises(KeyringError):
        ring.sign("link", b"x")


def test_without_a_state_directory_it_says_so(tmp_path: Path) -> None:
    """Nothing has run here yet."""
    with pytest.raises(KeyringError, match="state directory"):
        Keyring(tmp_path / "absent").sign("link", b"x")


def test_a_full_disk_is_told_and_leaves_no_half_file(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's reason; the next use tries again."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(KeyringError, match="cannot be written: No space left"):
        patched.setattr(os, "fsync", full)
        ring.sign("link", b"x")
    assert list(ring.path.parent.iterdir()) == []
    assert ring.sign("link", b"x")


def test_its_secrets_are_in_no_repr(ring: Keyring) -> None:
    """Of nothing that a traceback may show."""
    ring.sign("link", b"x")
    secret = json.loads(ring.path.read_text())["keys"][0]["secret"]
    assert secret not in repr(ring.__dict__)
    assert repr(bytes.fromhex(secret)) not in repr(ring.__dict__)
