"""`promptloom clusters`, `show`, `why` and `stats`: what the catalogue in Postgres knows.

Reads only, and needs nothing but the database: Kafka and the workers may be down. `--json` prints
the same facts for programs; what a person sees is put together in `catalogue_views.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from connectors.postgres.reader import Cluster, ClusterDetail, Event, Integrity, PromptHistory, Reader, Stats

Answer = TypeVar("Answer")

CLUSTERS_SHOWN = 20  # a screenful
EVENTS_SHOWN = 10
NOTHING_YET = (
    "The catalogue is empty. With `promptloom worker` and `promptloom sink` running, "
    "`promptloom replay` sends prompts; look again a moment later."
)

json_option = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


@click.command()
@click.option("--tenant", help="Only clusters of this tenant.")
@click.option("--limit", type=click.IntRange(min=1), default=CLUSTERS_SHOWN, show_default=True, help="At most so many.")
@json_option
def clusters(*, tenant: str | None, limit: int, as_json: bool) -> None:
    """List the clusters of prompts that share a template, largest first."""
    from streams.cli.catalogue_views import clusters_table
    from streams.cli.render import console, json_text

    async def ask(reader: Reader) -> list[Cluster]:
        # One more than shown tells whether there are more.
        return await reader.clusters(tenant=tenant, limit=limit + 1)

    found = _asked(ask)
    if as_json:
        click.echo(json_text(found[:limit]))
    elif found:
        screen = console()
        screen.print(clusters_table(found[:limit]))
        screen.print("`promptloom show CLUSTER` tells all about one; the first characters of its id are enough.")
        if len(found) > limit:
            screen.print(f"There are more than these {limit}: see --limit.")
    elif tenant:
        click.echo(f"No clusters of tenant {tenant!r}. `promptloom clusters` lists those of all tenants.")
    else:
        click.echo(NOTHING_YET)


@click.command()
@click.argument("cluster")
@click.option("--schema", "as_schema", is_flag=True, help="Only the JSON Schema of its slots, for `validate`.")
@json_option
def show(cluster: str, *, as_schema: bool, as_json: bool) -> None:
    """Show the template of CLUSTER, its slots, versions and family, recent events and examples.

    CLUSTER is an id as `promptloom clusters` lists it, whole or shortened. One that was merged
    into another shows the other. Examples never hold rejected text: that is not stored.
    """
    from streams.cli.catalogue_views import detail_view, with_diffs
    from streams.cli.render import console, json_text, plain

    async def ask(reader: Reader) -> tuple[ClusterDetail, tuple[Event, ...]]:
        detail = await _detail(reader, cluster)
        cluster_id = detail.cluster.cluster_id
        return detail, await reader.events(cluster_id=cluster_id, limit=EVENTS_SHOWN)

    if as_schema:
        click.echo(json_text(schema_of(cluster)))
        return
    detail, events = _asked(ask)
    if as_json:
        click.echo(json_text({**plain(detail), "versions": with_diffs(detail.versions), "events": plain(events)}))
    else:
        console().print(detail_view(detail, events))


@click.command()
@click.argument("prompt_id")
@click.option("--tenant", help="Whose prompt, when several tenants use the id.")
@json_option
def why(prompt_id: str, *, tenant: str | None, as_json: bool) -> None:
    """Explain why the prompt PROMPT_ID is in its cluster, from its first assignment to the current one."""
    from streams.cli.catalogue_why import history_view
    from streams.cli.render import console, json_text

    async def ask(reader: Reader) -> list[PromptHistory]:
        return await reader.why(prompt_id, tenant=tenant)

    histories = _asked(ask)
    if not histories:
        of_tenant = f" of tenant {tenant!r}" if tenant else ""
        raise _problem(
            f"no prompt {prompt_id!r}{of_tenant} in the catalogue",
            "ids are whole and case counts; `promptloom show CLUSTER` lists some; a new prompt may still be on its way",
        )
    if as_json:
        click.echo(json_text(histories))
    else:
        for history in histories:
            console().print(history_view(history))


@click.command()
@json_option
def stats(*, as_json: bool) -> None:
    """Count prompts by outcome, clusters, events and rows; show latency and whether anything is missing."""
    from streams.cli.catalogue_views import stats_view
    from streams.cli.render import console, json_text, plain

    async def ask(reader: Reader) -> tuple[Stats, Integrity]:
        return await reader.stats(), await reader.integrity()

    numbers, integrity = _asked(ask)
    if as_json:
        click.echo(json_text({"prompts": numbers.prompts, **plain(numbers), "integrity": plain(integrity)}))
    elif numbers.prompts:
        console().print(stats_view(numbers, integrity))
    else:
        click.echo(NOTHING_YET)


def schema_of(cluster: str) -> dict[str, Any]:
    """Return the JSON Schema of the slots of a cluster's template."""
    from schemas.events import Slot, SlotType
    from streams.prompts.canonicalization.contract import json_schema

    async def ask(reader: Reader) -> ClusterDetail:
        return await _detail(reader, cluster)

    detail = _asked(ask)
    template, version = detail.cluster.template, detail.cluster.version
    if template is None or version is None:
        raise _problem("this cluster has no template yet", "it comes when enough prompts agree")
    slots = (
        Slot(
            name=slot.name,
            position=position,
            type=SlotType(slot.type),
            optional=slot.optional,
            repeated=slot.repeated,
            confidence=slot.confidence,
            examples=tuple(json.loads(slot.examples_json)),
            detail=json.loads(slot.detail_json),
        )
        for position, slot in enumerate(detail.slots)
    )
    return json_schema(template, version, slots)


async def _detail(reader: Reader, cluster: str) -> ClusterDetail:
    cluster_id = _only_match(cluster, await reader.resolve(cluster))
    detail = await reader.cluster(cluster_id)
    if detail is None:
        raise _problem(f"cluster {cluster_id[:8]} was dissolved: its prompts are elsewhere", "promptloom why PROMPT_ID")
    return detail


def _asked(question: Callable[[Reader], Awaitable[Answer]]) -> Answer:
    """Return the answer to a question over a connection of its own."""
    from connectors.postgres.reader import Reader
    from streams.cli.common import located_settings

    dsn = located_settings(kafka=False).postgres.dsn.get_secret_value()

    async def ask() -> Answer:
        reader = Reader(dsn)
        try:
            return await question(reader)
        finally:
            await reader.close()

    return asyncio.run(ask())


def _only_match(shortened: str, matches: list[str]) -> str:
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise _problem(f"no cluster's id begins with {shortened!r}", "`promptloom clusters` lists them")
    listed = ", ".join(sorted(matches))
    raise _problem(f"{shortened!r} may be any of these: {listed}", "give more characters of the id")


def _problem(message: str, hint: str) -> click.ClickException:
    return click.ClickException(f"{message}\n  -> {hint}")
