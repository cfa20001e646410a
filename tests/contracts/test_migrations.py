"""The tables go up and down on a real database, and hold what they promise by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from infra import migrations
from schemas.errors import PromptloomError, ServiceUnavailable

pytestmark = pytest.mark.postgres

RELATIONS = """
SELECT c.relkind::text, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname NOT LIKE 'alembic_%' ORDER BY 1, 2
"""
FUNCTIONS = "SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'"
INDEX_DEFINITIONS = "SELECT tablename || ' ' || indexdef FROM pg_indexes WHERE schemaname = 'public'"
CLUSTER = "10000000-0000-0000-0000-000000000001"
TEMPLATE = "20000000-0000-0000-0000-000000000001"
WHOLE = "INSERT INTO canonical_templates VALUES (%s, 't', %s, '1.0.0', 'Hello', '[]', '', '', 0.5, 3, now())"


@pytest.fixture
def connection(postgres_dsn: str) -> Iterator[psycopg.Connection]:
    migrations.upgrade(postgres_dsn)
    with psycopg.connect(postgres_dsn, autocommit=True) as opened:
        opened.execute("INSERT INTO clusters (cluster_id, tenant) VALUES (%s, 't')", [CLUSTER])
        yield opened


def test_down_to_base_leaves_nothing_and_up_again_gives_the_same(postgres_dsn: str) -> None:
    assert migrations.upgrade(postgres_dsn) == migrations.head()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        before = connection.execute(RELATIONS).fetchall()
        assert migrations.downgrade(postgres_dsn, "base") is None
        assert connection.execute(RELATIONS).fetchall() == []
        assert connection.execute(FUNCTIONS).fetchall() == []
        assert migrations.upgrade(postgres_dsn) == migrations.current(postgres_dsn) == migrations.head()
        assert connection.execute(RELATIONS).fetchall() == before
    assert len(before) > 20


def test_the_first_tables_are_left_as_they_were_by_the_way_down_from_the_second(postgres_dsn: str) -> None:
    migrations.upgrade(postgres_dsn, "0001")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        first = connection.execute(RELATIONS).fetchall()
        migrations.upgrade(postgres_dsn, "0002")
        second = connection.execute(RELATIONS).fetchall()
        added = {name for kind, name in second if (kind, name) not in first and kind in {"r", "v"}}
        assert added == {"template_refinements", "refined_families"}
        assert migrations.downgrade(postgres_dsn, "0001") == "0001"
        assert connection.execute(RELATIONS).fetchall() == first


def test_upgrading_twice_changes_nothing(postgres_dsn: str) -> None:
    assert migrations.upgrade(postgres_dsn) == migrations.upgrade(postgres_dsn)


def test_a_database_of_a_newer_version_is_refused_with_a_hint(postgres_dsn: str) -> None:
    migrations.upgrade(postgres_dsn)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(PromptloomError, match="9999") as refused:
        migrations.upgrade(postgres_dsn)
    assert "newer" in refused.value.hint


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(ServiceUnavailable) as away:
        migrations.current("postgresql://me:hush@127.0.0.1:1/nowhere")
    assert "hush" not in str(away.value)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("prompts", "(created_at)"),
        ("cluster_assignments", "(prompt_id"),
        ("cluster_assignments", "(cluster_id)"),
        ("canonical_templates", "(cluster_id)"),
        ("canonical_templates", "(version)"),
        ("canonical_templates", "gin (slots)"),
        ("template_slots", "gin (example_values)"),
        ("template_refinements", "(family_id)"),
        ("evolution_events", "(template_id)"),
        ("evolution_events", "(created_at)"),
    ],
)
def test_what_is_searched_by_has_an_index(connection: psycopg.Connection, table: str, columns: str) -> None:
    definitions = [row[0] for row in connection.execute(INDEX_DEFINITIONS)]
    assert any(definition.startswith(table) and columns in definition for definition in definitions)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE canonical_templates SET template = 'other'",
        "UPDATE canonical_templates SET name = 'other'",
        "DELETE FROM canonical_templates",
        "UPDATE template_slots SET type = 'url'",
        "DELETE FROM template_slots",
    ],
)
def test_a_template_version_cannot_be_changed_or_deleted(connection: psycopg.Connection, statement: str) -> None:
    connection.execute(WHOLE, [TEMPLATE, CLUSTER])
    connection.execute(
        "INSERT INTO template_slots VALUES (%s, 'name', 0, 'name', false, false, 1, '[]', '{}', '{}')", [TEMPLATE]
    )
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="insert-only"):
        connection.execute(statement)


def test_a_stub_of_a_template_version_is_filled_once(connection: psycopg.Connection) -> None:
    stub = "INSERT INTO canonical_templates (template_id, tenant, cluster_id, version) VALUES (%s, 't', %s, '1.0.0')"
    connection.execute(stub, [TEMPLATE, CLUSTER])
    fill = """UPDATE canonical_templates SET template = 'Hello', slots = '[]', name = '', description = '',
        confidence = 1, members = 3, created_at = now()"""
    assert connection.execute(fill).rowcount == 1
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="insert-only"):
        connection.execute(fill)


def test_a_rejected_prompt_cannot_have_a_text(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="prompts_rejected_has_no_text"):
        connection.execute(
            "INSERT INTO prompts VALUES ('p', 't', 'text', 'hash', 4, 'rejected', '{}', '', '{}', NULL,"
            " now(), now(), now(), 0, 0)"
        )


def test_a_prompt_cannot_have_two_current_assignments(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO prompts VALUES ('p', 't', 'text', NULL, 4, 'allowed', '{}', '', '{}', NULL,"
        " now(), now(), now(), 0, 0)"
    )
    link = (
        "INSERT INTO cluster_assignments VALUES ('p', 't', %s, true, %s, NULL, 1, 1, '', '{}', NULL, NULL, '{}', false)"
    )
    connection.execute(link, [0, CLUSTER])
    with pytest.raises(psycopg.errors.UniqueViolation, match="cluster_assignments_one_current"):
        connection.execute(link, [1, CLUSTER])
