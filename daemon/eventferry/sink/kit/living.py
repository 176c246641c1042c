"""The promises about a type's life beside deliveries: options, names, secrets, steps of a check, counts."""

import base64
import contextlib
import re
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from eventferry.sink.base import CONTRACT_VERSION, Guarantee, Sink, SinkOptions
from eventferry.sink.columns import ColumnOptions
from eventferry.sink.errors import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit.batches import FIELD_NAMES, NUMBERS, make_batch, sample_events
from eventferry.sink.kit.places import Places, logged
from eventferry.sink.kit.target import Target

HOSTILE_NAMES = ('events"; DROP TABLE events; --', "a'b", "a`b", "two words", "x" * 64, "", "a\x00b", "a;b", "9", "a-b")
_FAILING = ("unreachable", "refusing", "misconfigured", "throttling", "hanging")
_WORD = re.compile(r"[a-z]+\.[a-z_]+")


class LivingPromises(Places):
    """What holds whether or not events flow."""

    def test_making_a_sink_touches_nothing(self) -> None:
        """A sink is made, shown and closed without any connection."""
        with self.unreachable() as target:
            sink = target.sink()
            assert repr(sink)
            sink.close()

    def test_close_twice_is_harmless(self) -> None:
        """close may be called again, and a new instance takes over at once."""
        with self.healthy() as target:
            with target.sink() as sink:
                sink.deliver(make_batch(sample_events(1)))
            sink.close()
            with target.sink() as sink:
                sink.deliver(make_batch(sample_events(1, 1)))
            self._same(target.arrived(), sample_events(1), sample_events(1, 1))

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt option is an error, never ignored."""
        self.sink_type.Options.model_validate(self.options)
        with pytest.raises(ValidationError):
            self.sink_type.Options.model_validate({**self.options, "no_such_option": 1})

    def test_the_type_declares_itself(self) -> None:
        """A type says its guarantee, its limits, the contract it was written for, and what it was proved against."""
        kind = self.sink_type
        assert issubclass(kind, Sink)
        assert issubclass(kind.Options, SinkOptions)
        assert kind.contract == CONTRACT_VERSION
        assert isinstance(kind.guarantee, Guarantee)
        assert kind.max_concurrency >= 1
        assert kind.limits.max_events >= 1
        assert kind.limits.max_bytes >= 1024
        assert kind.proved_against == self.counterpart, "`proved_against` is not what this test runs against"
        assert self.counterpart or not kind.experimental, "an experimental type says what it was proved against"

    def test_names_that_are_more_than_names_are_refused(self) -> None:
        """Tables and columns with quotes, SQL, spaces, NUL, too many bytes, or twins in case are refused as options."""
        model = self.sink_type.Options
        hostile: list[dict[str, Any]] = []
        if self.table_option in model.model_fields:
            hostile += [{self.table_option: name} for name in HOSTILE_NAMES]
        if issubclass(model, ColumnOptions):
            hostile += [{"columns": {name: "a"}} for name in HOSTILE_NAMES]
            hostile += [{"columns": {"Url": "a", "url": "b"}}, {"columns": {"event": "a"}}]
        if not hostile:
            pytest.skip("this sink type has no option that becomes an identifier")
        for options in hostile:
            with pytest.raises(ValidationError):
                model.model_validate({**self.options, **options})

    def test_secrets_stay_secret(self) -> None:
        """No secret is in the text of a sink, of its options, of an error and its traceback, or in what is logged."""
        if not self.secrets:
            pytest.skip("this sink type has no secrets")
        for place in (getattr(self, each) for each in _FAILING if self.has(each)):
            with place() as target:
                sink = target.sink()
                texts = [repr(sink), str(sink), repr(sink.options), str(sink.options), self._fail(target)]
            for secret in self.secrets:
                for form in (secret, quote(secret), base64.b64encode(secret.encode()).decode()):
                    assert not any(form in text for text in texts), f"a secret is shown at {place.__name__}"

    # What a person may ask

    def test_a_check_tells_steps_and_changes_nothing(self) -> None:
        """check() yields sentences, leaves nothing at the other side, and a delivery goes well after it."""
        self._has_check()
        with self.healthy() as target:
            with target.sink() as sink:
                steps = list(sink.check())
                assert steps, "no step was told"
                assert all(isinstance(step, str) and step.strip() and "\n" not in step for step in steps), steps
                assert not target.arrived(), "a check left events"
                sink.deliver(make_batch(sample_events(2)))
                assert list(sink.check()) == list(sink.check()), "a check with events there is not repeatable"
            self._same(target.arrived(), sample_events(2))

    def test_a_check_raises_what_a_delivery_would(self) -> None:
        """At an unreachable place the check says later, at a misconfigured one it calls a person."""
        self._has_check()
        expected: list[tuple[str, type[SinkError]]] = [("unreachable", SinkUnavailable)]
        expected += [("misconfigured", SinkMisconfigured)] if self.check_sees else []
        for hook, error in expected:
            if self.has(hook):
                with getattr(self, hook)() as target, logged() as lines:
                    said = _checked(target)
                assert isinstance(said, error), f"at {hook} the check says {said!r}, not {error.__name__}"
                shown = [str(said), *lines]
                assert not any(secret in text for secret in self.secrets for text in shown), "a secret is shown"

    def test_counts_are_well_formed(self) -> None:
        """What is counted has a name like `values.misfitted`, what it is of, and a number above zero."""
        with self.healthy() as target, target.sink() as sink:
            names = [each for each in FIELD_NAMES if self.takes_nul or b"\\u0000" not in each]
            sink.deliver(make_batch([*NUMBERS, *names]))
            for (what, of), number in sink.counts.items():
                assert _WORD.fullmatch(what), f"{what!r} is no `noun.participle`"
                assert isinstance(of, str)
                assert number > 0, f"{what!r} was counted {number} times"

    def test_misfits_are_counted_once(self) -> None:
        """A value that does not fit its column is counted, its event arrives whole, and a known repeat adds nothing."""
        with self.with_columns({"n": {"path": "n", "type": "integer"}}) as target:
            events = [b'{"n":1}', b'{"n":"many"}', b'{"n":2}']
            with target.sink() as sink:
                sink.deliver(make_batch(events))
                assert sink.counts["values.misfitted", "n"] == 1, f"one value did not fit; counted: {dict(sink.counts)}"
            self._same(target.arrived(), events)
            with target.sink() as sink:
                if sink.was_delivered(make_batch(events)):
                    sink.deliver(make_batch(events, attempt=2))
                    assert not sink.counts["values.misfitted", "n"], "a repeat that changed nothing was counted"

    def _has_check(self) -> None:
        if self.sink_type.check is Sink.check:
            pytest.skip("this sink type has no check()")


def _checked(target: Target) -> SinkError | None:
    """What opening and checking raised."""
    sink = target.sink()
    try:
        sink.open()
        with contextlib.closing(sink):
            list(sink.check())
    except SinkError as error:
        return error
    return None
