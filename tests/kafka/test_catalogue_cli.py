"""`promptloom clusters`, `show`, `why` and `stats` on rows a sink wrote to a real database."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner, Result

from connectors.postgres.sink import PostgresSink
from infra import migrations
from streams.cli import promptloom
from streams.engine.ports import Record
from streams.prompts.postgres_rows import rows_of
from tests.sink_records import (
    A,
    B,
    a_link,
    a_prompt,
    a_refinement,
    a_story,
    a_version,
    an_event,
    event_record,
    frame_record,
    refinement_record,
)

pytestmark = pytest.mark.postgres

Run = Callable[..., Result]
HOSTILE = "a\x1b[2Jb [bold]c[/bold] \u202ed\x9b"


@pytest.fixture
def run(postgres_dsn: str) -> Run:
    """Return a function that runs a command on a migrated database of the test's own."""
    migrations.upgrade(postgres_dsn)
    environment = {"PROMPTLOOM_POSTGRES__DSN": postgres_dsn}
    return lambda *arguments: CliRunner().invoke(promptloom, arguments, env=environment)


@pytest.fixture
def fill(postgres_dsn: str) -> Callable[[Sequence[Record]], None]:
    async def write(records: Sequence[Record]) -> None:
        sink = PostgresSink(postgres_dsn)
        await sink.write([rows_of(record) for record in records], {})
        await sink.close()

    return lambda records: asyncio.run(write(records))


@pytest.fixture
def told(run: Run, fill: Callable[[Sequence[Record]], None]) -> Run:
    fill(a_story())
    return run


def test_an_empty_catalogue_says_how_to_fill_it(run: Run) -> None:
    for command in ("clusters", "stats"):
        assert "promptloom replay" in run(command).output
    assert json.loads(run("clusters", "--json").output) == []


def test_clusters_are_listed_largest_first_with_their_templates(told: Run) -> None:
    shown = told("clusters").output
    assert re.search(rf"{A[:8]} +acme .* 4 +1\.3\.0 +1 +Translate {{{{what}}}} into French\.", shown)
    assert [cluster["members"] for cluster in json.loads(told("clusters", "--json").output)] == [4, 3]
    assert "more than these 1" in told("clusters", "--limit", "1").output
    assert "No clusters of tenant 'nobody'" in told("clusters", "--tenant", "nobody").output


def test_show_tells_all_about_a_cluster_by_a_shortened_id(told: Run) -> None:
    shown = told("show", A[:6]).output
    for part in (
        "Translate {{what}} into French.",
        "text_short",
        "-Translate {{what}} into French, please.",
        "three prompts share it",
        "1.0.0 -> 1.1.0",
        "family",
        B[:8],
    ):
        assert part in shown
    detail = json.loads(told("show", A, "--json").output)
    assert [version["version"] for version in detail["versions"]] == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert [bool(version["diff"]) for version in detail["versions"]] == [False, True, True, False]
    assert detail["slots"][0]["examples"] == ["1", "2"]


def test_names_of_a_model_are_shown_and_said_to_be_a_models(run: Run, fill: Callable[[Sequence[Record]], None]) -> None:
    version = a_version()
    fill([frame_record(0, a_link(a_prompt(1), A)), event_record(0, an_event(version))])
    assert "model" not in run("clusters").output + run("show", A).output
    fill([refinement_record(0, a_refinement(version))])
    assert "French translation (model)" in run("clusters").output
    shown = run("show", A).output
    for part in (
        "French translation",
        "name by  the model gpt; offline: translate",
        "Translation (",
        "named by the model gpt",
        "a model calls it",
        "source_text",
        "it is what is translated",
        "Translate {{what}} into French.",
    ):
        assert part in shown
    cluster = json.loads(run("show", A, "--json").output)["cluster"]
    assert (cluster["named_by"], cluster["offline_name"]) == ("gpt", "translate")


def test_an_unknown_or_ambiguous_cluster_is_an_error_with_a_hint(told: Run) -> None:
    unknown, ambiguous = told("show", "zzz"), told("show", "")
    assert unknown.exit_code == ambiguous.exit_code == 1
    assert "promptloom clusters" in unknown.output
    assert A in ambiguous.output
    assert "more characters" in ambiguous.output


def test_why_tells_every_move_of_a_prompt_in_words(told: Run) -> None:
    shown = told("why", "p1").output
    for part in ("1. stayed outside all clusters", f"2. joined cluster {A[:8]}", "3. ", "<- current", "algorithm test"):
        assert part in shown
    assert shown.count("<- current") == 1
    (history,) = json.loads(told("why", "p1", "--json").output)
    assert [link["decision"]["gate"] for link in history["chain"]] == ["structure"] * 3


def test_why_of_a_rejected_prompt_names_the_verdict_and_that_no_text_is_kept(told: Run) -> None:
    assert "rejected for hate (by test, policy 1; highest score: hate 0.99); a rejected text is not stored" in (
        told("why", "p7").output
    )


def test_why_of_an_unknown_prompt_is_an_error_with_a_hint(told: Run) -> None:
    result = told("why", "p1", "--tenant", "nobody")
    assert result.exit_code == 1
    assert "no prompt 'p1' of tenant 'nobody'" in result.output


def test_stats_count_every_prompt_once(told: Run) -> None:
    shown = told("stats").output
    for part in ("Prompts: 12", "rejected by moderation", "UPDATED", "cluster_assignments", "p95", "ok: every allowed"):
        assert part in shown
    numbers = json.loads(told("stats", "--json").output)
    assert (numbers["prompts"], numbers["rejected"], numbers["integrity"]) == (12, 4, {"unassigned": 0, "gaps": 0})


def test_text_of_prompts_neither_commands_the_terminal_nor_is_markup(
    run: Run, fill: Callable[[Sequence[Record]], None]
) -> None:
    version = a_version(template=f"{HOSTILE} {{{{what}}}}", name=HOSTILE, description=HOSTILE)
    prompt = a_prompt(1, HOSTILE, source=HOSTILE)
    fill([frame_record(0, a_link(prompt, A, 0, slots={"what": HOSTILE})), event_record(0, an_event(version))])
    for arguments in (("clusters",), ("show", A), ("why", "p1"), ("show", A, "--json"), ("why", "p1", "--json")):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert not set(result.output) & set("\x1b\x9b\u202e")
        assert "[bold]" in result.output
