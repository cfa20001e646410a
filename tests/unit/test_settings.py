"""One tree of settings; every problem is told at once."""

from pathlib import Path

import pytest

from schemas.errors import SettingsInvalid
from streams import settings

ROOT = Path(__file__).parents[2]


def test_the_example_in_the_repository_is_the_generated_one() -> None:
    example = ROOT / "infra" / "config.example.yaml"
    assert example.read_text() == settings.example_yaml(), "run: promptloom config example > infra/config.example.yaml"


def test_the_example_is_itself_a_valid_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(settings.example_yaml())
    monkeypatch.setenv("PROMPTLOOM_CONFIG", str(path))
    assert settings.load().kafka == settings.KafkaSettings()


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_KAFKA__PARTITIONS", "many")
    monkeypatch.setenv("PROMPTLOOM_ENGINE__UNIT_WAIT_MS", "-1")
    monkeypatch.setenv("PROMPTLOOM_KAFKA__NONSENSE", "1")
    with pytest.raises(SettingsInvalid) as caught:
        settings.load()
    for name in ("kafka.partitions", "engine.unit_wait_ms", "kafka.nonsense"):
        assert name in str(caught.value)


def test_a_problem_does_not_show_the_secret_that_caused_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTLOOM_PORTKEY__API_KEY", '["hush"]')
    monkeypatch.setenv("PROMPTLOOM_PORTKEY__TIMEOUT_S", "hush")
    with pytest.raises(SettingsInvalid) as caught:
        settings.load()
    assert "hush" not in str(caught.value)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("kafka: {partitions: 3, replication_factor: 2}\n")
    monkeypatch.setenv("PROMPTLOOM_CONFIG", str(path))
    monkeypatch.setenv("PROMPTLOOM_KAFKA__PARTITIONS", "5")
    loaded = settings.load()
    assert (loaded.kafka.partitions, loaded.kafka.replication_factor) == (5, 2)


def test_a_config_file_that_is_not_there_or_not_yaml_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTLOOM_CONFIG", str(tmp_path / "absent.yaml"))
    with pytest.raises(SettingsInvalid, match="not a file"):
        settings.load()
    broken = tmp_path / "broken.yaml"
    broken.write_text("kafka: [")
    monkeypatch.setenv("PROMPTLOOM_CONFIG", str(broken))
    with pytest.raises(SettingsInvalid, match="not YAML"):
        settings.load()


def test_secrets_do_not_print() -> None:
    loaded = settings.Settings(portkey=settings.PortkeySettings(api_key="hush"))
    assert "hush" not in repr(loaded)
    assert "hush" not in str(loaded.model_dump())
