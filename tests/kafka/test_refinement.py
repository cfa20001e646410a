"""Refinement in the whole pipeline: a gateway that fails holds nothing but names, and each name is asked for once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from schemas.topics import REFINEMENTS
from tests.kafka.pipeline import PARTITIONS, WORKER, Pipeline, running
from tests.stub_gateway import Answer, StubGateway, completion

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]

KEY = "the-key-nobody-may-see"
SLOW_DOWN: Answer = (429, {}, {"retry-after": "0.1"})
THINGS = ("rain", "wood", "glass", "bread", "rivers", "stones", "clouds", "metal", "paper", "honey")


@pytest.fixture
def gateway() -> Iterator[StubGateway]:
    with StubGateway() as stub:
        yield stub


@pytest.fixture
def pipeline(gateway: StubGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(
        tmp_path_factory.mktemp("refinement"),
        PROMPTLOOM_REFINEMENT__MODEL="gpt",
        PROMPTLOOM_PORTKEY__BASE_URL=gateway.url,
        PROMPTLOOM_PORTKEY__API_KEY=KEY,
        PROMPTLOOM_LOGGING__LEVEL="DEBUG",
    ) as started:
        yield started


def named(request: Any) -> Answer:
    about = json.loads(request["messages"][1]["content"])
    slots = {name: {"name": f"better_{name}", "reason": "it fits"} for name in about["slots"]}
    answer = {"name": "Lesson for a child", "description": "Explains.", "family_name": "Lessons", "slots": slots}
    return 200, completion(request, json.dumps(answer))


def teach(pipeline: Pipeline, tenant: str) -> None:
    for number in range(60):
        thing, other = THINGS[number % 10], THINGS[number // 10]
        text = (
            f"You are a patient teacher. Explain to a child of {number % 9 + 3} years why {thing} and {other} melt,"
            " in at most three sentences and without foreign words."
        )
        pipeline.send({"id": f"{tenant}-{number}", "tenant": tenant, "text": text}, partition=number % PARTITIONS)


def refinements(pipeline: Pipeline) -> list[tuple[bytes, str]]:
    """Return key and id of each committed record of `refinements`."""
    consumer = Consumer({**pipeline.kafka, "group.id": "refinements", "enable.auto.commit": False})
    consumer.assign([TopicPartition(REFINEMENTS.name, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    try:
        found = []
        while messages := consumer.consume(500, 3.0):
            found += [(m.key() or b"", json.loads(m.value() or b"")["refinement_id"]) for m in messages]
        return found
    finally:
        consumer.close()


def refined(pipeline: Pipeline) -> bool:
    """Tell whether every template version has a model's name."""
    versions = pipeline.query("SELECT count(*) FROM canonical_templates WHERE template IS NOT NULL")
    return pipeline.query("SELECT count(*) FROM template_refinements") == versions != [(0,)]


def test_names_come_late_and_once_when_the_gateway_fails_and_the_worker_is_killed(
    pipeline: Pipeline, gateway: StubGateway
) -> None:
    gateway.answer = lambda _: SLOW_DOWN
    teach(pipeline, "first")
    pipeline.until(lambda: "refinement evolution-events-" in pipeline.logs(), what="refinement is held")
    teach(pipeline, "second")
    pipeline.settle()  # all prompts and events arrive, while names are held
    assert pipeline.count("template_refinements") == 0
    gateway.answer = named
    pipeline.until(lambda: refined(pipeline), what="every version is refined")
    asked = len(gateway.requests)

    pipeline.local.kill(WORKER)
    pipeline.local.start(WORKER)
    teach(pipeline, "third")
    pipeline.settle()
    pipeline.until(lambda: refined(pipeline), what="the new versions are refined too")
    versions = pipeline.count("canonical_templates")
    found = refinements(pipeline)
    assert len(found) == len(set(found)) == versions, "one record a version"
    new = pipeline.query("SELECT count(*) FROM canonical_templates WHERE tenant = 'third'")
    assert len(gateway.requests) - asked == new[0][0], "what was refined before is not asked about again"

    (cluster,) = pipeline.ask(lambda reader: reader.clusters(tenant="first"))
    assert (cluster.name, cluster.named_by, cluster.family_name) == ("Lesson for a child", "gpt", "Lessons")
    for secret in (KEY, "patient teacher"):
        assert secret not in pipeline.logs()
