"""A model gateway that fails in every way, under the whole pipeline: work waits, says why, and goes on.

What is checked of each fault, first for the embedder, then for the moderator: the partition is held and `/ready` says
which service and why, the worker stays in its group, and once the gateway is well every prompt arrives, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from connectors.moderators.portkey import CATEGORIES
from schemas.topics import DEAD_LETTERS
from streams.engine.letters import Filters
from streams.prompts.dead_letters import DeadLetterBox
from tests.kafka.pipeline import PARTITIONS, Pipeline, running
from tests.stub_gateway import SILENCE, Answer, StubGateway, embeddings, moderations

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]

DIMENSION = 8
EMBEDDER, MODERATOR = "embedding-model", "moderation-model"
FORBIDDEN = "the-firewall-does-not-like-this"

# The gateway's answer, and what `/ready` says of it.
FAULTS: dict[str, tuple[Answer, str]] = {
    "silence": ((SILENCE, ""), "no answer within 0.5 s"),
    "a rate limit": ((429, {}, {"retry-after": "0.1"}), "answered 429"),
    "a refusal of everything": ((403, {}), "answered 403"),
    "an error of its own": ((500, {}), "answered 500"),
    "broken JSON": ((200, '{"data": ['), "cannot be read"),
    "JSON of another shape": ((200, {"data": [], "results": []}), "came for"),
}


class Gateway(StubGateway):
    """Answers rightly, but for the models that are faulty at the moment, and refuses one text while it `forbids`."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Answer] = {}
        self.forbids = True
        self.answer = self._answer

    def _answer(self, request: Any) -> Answer:
        if fault := self.faults.get(request["model"]):
            return fault
        if self.forbids and any(FORBIDDEN in text for text in request["input"]):
            return 403, {"error": {"message": "blocked by policy"}}
        if request["model"] == MODERATOR:
            return 200, moderations(request, CATEGORIES)
        return 200, embeddings(request, DIMENSION)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway() as stub:
        yield stub


@pytest.fixture(scope="module")
def pipeline(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(
        tmp_path_factory.mktemp("gateway"),
        PROMPTLOOM_MODERATION__MODERATOR="portkey",
        PROMPTLOOM_MODERATION__PORTKEY_MODEL=MODERATOR,
        PROMPTLOOM_EMBEDDING__EMBEDDER="portkey",
        PROMPTLOOM_EMBEDDING__PORTKEY_MODEL=EMBEDDER,
        PROMPTLOOM_EMBEDDING__PORTKEY_DIMENSION=str(DIMENSION),
        PROMPTLOOM_PORTKEY__BASE_URL=gateway.url,
        PROMPTLOOM_PORTKEY__API_KEY="key",
        PROMPTLOOM_PORTKEY__TIMEOUT_S="0.5",
    ) as started:
        send(started, "first")
        started.settle()
        yield started


def send(pipeline: Pipeline, name: str) -> None:
    for partition in range(PARTITIONS):
        pipeline.send({"id": f"{name}-{partition}", "text": f"A prompt sent in {name}."}, partition=partition)


def member(pipeline: Pipeline) -> str:
    """Return the one member of the group; who left and came back has another id."""
    admin = AdminClient(pipeline.kafka)  # kept: without it nobody answers
    group = admin.describe_consumer_groups(["promptloom"])["promptloom"].result()
    (only,) = group.members
    return str(only.member_id)


@pytest.mark.parametrize("fault", FAULTS)
def test_work_waits_for_the_gateway_and_says_why(pipeline: Pipeline, gateway: Gateway, fault: str) -> None:
    answer, said = FAULTS[fault]
    before = member(pipeline)
    for stage, model in (("embedding", EMBEDDER), ("moderation", MODERATOR)):
        gateway.faults[model] = answer
        send(pipeline, f"{fault} of {stage}".replace(" ", "-"))

        def held(stage: str = stage) -> bool:
            return any(place.startswith(stage) and said in why for place, why in pipeline.unready().items())

        pipeline.until(held, what=f"{stage} is held")
    gateway.faults.clear()
    pipeline.settle()
    pipeline.until(lambda: not pipeline.unready(), what="the worker is ready again")
    assert member(pipeline) == before
    assert pipeline.count("prompts") == pipeline.produced
    assert pipeline.query("SELECT count(*) FROM prompts WHERE moderation_status <> 'allowed'") == [(0,)]
    assert pipeline.logs().count('"event": "sessions open"') == 1


def test_a_text_that_the_gateway_alone_refuses_is_dead_lettered_and_arrives_once_when_sent_back(
    pipeline: Pipeline, gateway: Gateway
) -> None:
    pipeline.send({"id": "forbidden", "text": f"Say {FORBIDDEN}, please."})
    send(pipeline, "harmless")
    pipeline.settle()
    (letter,) = pipeline.seen(DEAD_LETTERS.name)
    assert json.loads(letter.value() or b"")["id"] == "forbidden"
    assert pipeline.count("prompts") == pipeline.produced - 1
    gateway.forbids = False
    with DeadLetterBox(pipeline.kafka, app_id="promptloom") as box:
        replayed = [box.replay(Filters(["error=InvalidPrompt"], datetime.now(UTC))) for _ in range(2)]
    assert [(outcome.sent, outcome.sent_before) for outcome in replayed] == [(1, 0), (0, 1)]
    pipeline.until(lambda: pipeline.count("prompts") == pipeline.produced, what="the prompt arrives")
    assert pipeline.query("SELECT moderation_status FROM prompts WHERE prompt_id = 'forbidden'") == [("allowed",)]
    assert pipeline.count("prompt_repeats") == 0
    assert FORBIDDEN not in pipeline.logs()
