"""A log line tells what happened, never what the prompt or the password was."""

import json
import logging

import pytest

from streams.engine import logs


def line(message: str, **fields: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "t", "levelname": "INFO", "msg": message, **fields})
    return json.loads(logs.JsonFormatter().format(record))


def test_fields_stand_beside_the_event() -> None:
    assert line("row written", cluster_id="c1")["cluster_id"] == "c1"
    assert line("row written")["event"] == "row written"


@pytest.mark.parametrize("name", ["password", "api_key", "sasl_password", "text", "messages", "Authorization", "dsn"])
def test_a_field_that_may_hold_a_secret_or_a_prompt_is_masked(name: str) -> None:
    assert line("connecting", **{name: "hush"})[name] == logs.MASK


def test_credentials_are_cut_out_of_urls_and_messages() -> None:
    shown = line("connecting to postgresql://loom:hush@db/loom with Bearer abcdefgh12345678")["event"]
    assert "hush" not in shown
    assert "abcdefgh12345678" not in shown
    assert "@db/loom" in shown


def test_an_exception_is_redacted_too() -> None:
    try:
        raise ValueError("postgresql://loom:hush@db")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})
    assert "hush" not in logs.JsonFormatter().format(record)


def test_a_long_value_is_cut() -> None:
    assert len(str(line("odd", detail="x" * 10_000)["detail"])) == logs.FIELD_CHARS_MAX + 1


def test_correlation_ids_stand_on_every_line_inside_and_on_none_outside() -> None:
    with logs.correlate(stage="clustering"), logs.correlate(prompt_id="p1"):
        inside = line("joined")
    assert (inside["stage"], inside["prompt_id"]) == ("clustering", "p1")
    assert "stage" not in line("joined")


def client_says(
    passing: logs.PassingFilter, at_s: float, message: str, name: str = "aiokafka.consumer.fetcher"
) -> bool:
    record = logging.makeLogRecord({"name": name, "levelname": "ERROR", "msg": message, "created": at_s})
    return bool(passing.filter(record))


def test_passing_troubles_of_a_client_are_said_only_when_they_last() -> None:
    passing = logs.PassingFilter()
    trouble = "Failed fetch offsets from 1: [Error 6] NotLeaderForPartitionError"
    said = [second / 10 for second in range(250) if client_says(passing, second / 10, trouble)]
    assert said == [10.0, 20.0]
    assert not client_says(passing, 100.0, trouble)  # it went away in between


def test_other_errors_of_a_client_and_those_of_others_are_said_at_once() -> None:
    passing = logs.PassingFilter()
    assert client_says(passing, 0.0, "Unable connect to broker")
    assert client_says(passing, 0.0, "NotLeaderForPartitionError", name="streams.engine.engine")


def test_the_name_of_the_process_stands_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("INFO", "json", instance="worker-2")
        logging.getLogger("t").info("begun")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    assert json.loads(capsys.readouterr().err)["instance"] == "worker-2"


def test_what_a_client_repeats_is_said_once_in_a_while_with_a_count() -> None:
    repeats = logs.RepeatFilter()

    def says(
        at_s: float, message: str, name: str = "aiokafka.conn", level: int = logging.ERROR
    ) -> logging.LogRecord | None:
        record = logging.makeLogRecord({"name": name, "levelno": level, "msg": message, "created": at_s})
        return record if repeats.filter(record) else None

    assert says(0.0, "unable to connect to node %s")
    assert [says(at / 10, "unable to connect to node %s") for at in range(1, 90)] == [None] * 89
    assert says(5.0, "another trouble"), "one message never hides another"
    later = says(logs.PATIENCE_S, "unable to connect to node %s")
    assert later is not None
    assert vars(later)["kept_back"] == 89
    assert all(says(1.0, "record dead-lettered", name="streams.engine.exactly_once.processing") for _ in range(3))
