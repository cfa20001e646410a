"""`promptloom calibrate`: what is measured, what is kept, and that workers and mine apply it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from connectors.embedders.wordllama import WordllamaEmbedder
from schemas.errors import InputError, SettingsInvalid
from streams.cli.calibrate import calibrate as command
from streams.cli.worker import commands
from streams.prompts import calibrated
from streams.prompts.calibration.logic import Calibration, calibrate
from streams.prompts.clustering.logic import Clustering
from streams.prompts.clustering.policy import Policy
from streams.settings import ClusteringSettings, Settings, load

DIMENSION = 32
TOPICS = ("tax law", "sourdough bread", "bicycle repair", "chess openings")
SUBJECTS = ("letters", "numbers", "beginners", "children", "teachers", "winter", "a long weekend", "small budgets")
TEMPLATES = (
    "You are an adviser for {topic}. Explain in {number} steps to {subject} what matters most, and stay polite.",
    "Translate this heading about {topic} and {subject} into {number} European languages, one language a line, please.",
    "Give me {number} short quiz questions on {topic} for {subject}; put the right answer behind each in brackets.",
    "Rank the usual mistakes with {topic} by their cost for {subject} and return the worst {number} of them as JSON.",
)


def clouds(spread: float, clusters: int = 12, members: int = 40) -> tuple[NDArray[np.float32], list[str | None]]:
    """Unit vectors around centres of their own, and which centre each belongs to."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(clusters, DIMENSION))
    points = np.repeat(centres, members, axis=0) + spread * random.normal(size=(clusters * members, DIMENSION))
    vectors = points / np.linalg.norm(points, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"c{place // members}" for place in range(len(points))]


def test_tight_clusters_get_a_threshold_between_members_and_strangers() -> None:
    found = calibrate(*clouds(spread=0.2))
    assert found.strangers[90] - 0.001 <= found.meaning_min < found.members[1]
    assert found.members_reached == 1.0


def test_an_embedder_that_finds_everything_alike_gets_a_higher_threshold() -> None:
    vectors, homes = clouds(spread=0.2)
    alike = vectors + np.ones(DIMENSION, dtype=np.float32)
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    assert calibrate(alike, homes).meaning_min > calibrate(vectors, homes).meaning_min + 0.2


def test_one_prompt_in_ten_is_as_near_to_a_foreign_cluster() -> None:
    assert calibrate(*clouds(spread=2.0)).strangers_reached == pytest.approx(0.1, abs=0.02)


def test_prompts_without_a_cluster_and_small_clusters_are_no_groups() -> None:
    vectors, homes = clouds(spread=0.2)
    homes[:36] = [None] * 36  # four are left of the first cluster
    assert calibrate(vectors, homes).clusters == 11


@pytest.mark.parametrize(("clusters", "members"), [(2, 200), (12, 10), (0, 0)])
def test_too_little_to_measure_is_refused_with_what_is_needed(clusters: int, members: int) -> None:
    with pytest.raises(InputError, match="200 prompts and 3 such clusters"):
        calibrate(*clouds(spread=0.2, clusters=clusters, members=members))


# The file.


def a_calibration(meaning_min: float) -> Calibration:
    return Calibration(300, 5, {50: 0.1}, {50: 0.9}, {50: 0.4}, meaning_min, 0.9, 0.1)


def settings(folder: Path, named: str = "") -> Settings:
    return Settings(data_dir=folder, clustering=ClusteringSettings(calibration=named))


def test_what_is_stored_is_what_a_tenants_engine_decides_by(tmp_path: Path) -> None:
    calibrated.store(tmp_path / "calibration.json", "e", "acme", a_calibration(0.7))
    calibrated.store(tmp_path / "calibration.json", "e", "acme", a_calibration(0.71))
    calibrated.store(tmp_path / "calibration.json", "e", "other", a_calibration(0.9))
    policy = calibrated.policy_of(settings(tmp_path))
    assert policy.of("acme", "e").meaning_min == 0.71
    assert policy.of("other", "e").meaning_min == 0.9
    assert policy.of("acme", "another embedder") is policy
    assert policy.of("nobody", "e").meaning_min == Policy().meaning_min


def test_a_decision_names_the_threshold_it_was_made_under() -> None:
    assert Policy(calibrated={("e", "acme"): 0.7}).of("acme", "e").version == "1+meaning 0.7"


def test_an_engine_takes_the_threshold_of_its_own_tenant_and_embedder() -> None:
    policy = Policy(calibrated={("e", "acme"): 0.7})
    engines = [Clustering(tenant, policy, embedder, DIMENSION) for tenant, embedder in (("acme", "e"), ("acme", "f"))]
    assert [engine._policy.meaning_min for engine in engines] == [0.7, Policy().meaning_min]


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', '{"entries": [{"embedder": "e"}]}'])
def test_a_file_that_is_no_calibration_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(SettingsInvalid, match=r"calibration\.json"):
        calibrated.policy_of(settings(tmp_path))


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert calibrated.policy_of(settings(tmp_path)) == Policy()
    with pytest.raises(SettingsInvalid, match="is not a file"):
        calibrated.policy_of(settings(tmp_path, named=str(tmp_path / "elsewhere.json")))


# The command, with real embeddings.


def a_file(folder: Path, count: int) -> Path:
    lines = [
        {
            "text": TEMPLATES[number % 4].format(
                topic=TOPICS[number // 4 % 4], subject=SUBJECTS[number // 16 % 8], number=3 + number // 128
            )
        }
        for number in range(count)
    ]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no prompt\n")
    return path


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTLOOM_DATA_DIR", str(tmp_path / "data"))
    return CliRunner().invoke(command, list(arguments), catch_exceptions=True)


def test_the_command_measures_the_embedder_and_stores_a_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path, 320)
    result = run(tmp_path, monkeypatch, str(path), "--tenant", "acme")
    assert result.exit_code == 0, result.output
    assert "two prompts at random" in result.output
    assert "1 lines were no usable prompts" in result.output
    (entry,) = calibrated.read(tmp_path / "data" / "calibration.json").entries
    assert (entry.embedder, entry.tenant, entry.prompts) == (WordllamaEmbedder().name, "acme", 320)
    assert entry.random[50] < entry.members[50]
    assert 0 < entry.meaning_min < 1


def test_a_dry_run_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, monkeypatch, str(a_file(tmp_path, 320)), "--dry-run").exit_code == 0
    assert not (tmp_path / "data").exists()


def test_a_file_of_too_few_prompts_is_refused_and_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(tmp_path, monkeypatch, str(a_file(tmp_path, 50)))
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "data").exists()


def test_workers_kept_alive_by_a_supervisor_read_the_calibration_that_a_single_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTLOOM_DATA_DIR", str(tmp_path / "data"))
    alone = load()
    for supervised in commands(alone, 2):
        with monkeypatch.context() as environment:
            for name, value in supervised.environment.items():
                environment.setenv(name, value)
            assert calibrated.path_of(load()) == calibrated.path_of(alone)
