"""The moderation room without a broker: each record ends in exactly one place."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from schemas.errors import ServiceRefused, ServiceUnavailable, SettingsInvalid
from schemas.ids import text_hash
from schemas.prompts import ModeratedFrame, ModeratedPrompt, Prompt, PromptRejected
from streams.engine import frames
from streams.engine.partitioning import partition_of
from streams.engine.ports import Record
from streams.prompts import ingest
from streams.prompts.moderation import agent
from streams.prompts.moderation.logic import Policy, decode_strikes
from tests.fakes import FakeEngine, FakeUnit, NoSchemas, a_record

PARTITIONS = 8
POLICY = Policy(version="1", threshold=0.5)


async def read(record: Record) -> Prompt:
    return await ingest.read(record, NoSchemas())


class WordModerator:
    """Rejects what says `bad`, declines what says `declined`, fails on `down`."""

    name = "words"
    categories: tuple[str, ...] = ("hate", "violence")

    async def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        if any("down" in text for text in texts):
            raise ServiceUnavailable("moderating: no answer")
        if any("declined" in text for text in texts):
            raise ServiceRefused("moderating: declined")
        return [{"hate": 0.9 if "bad" in text else 0.1, "violence": 0.0} for text in texts]


def an_engine() -> FakeEngine:
    engine = FakeEngine()
    agent.attach(engine, read=read, moderator=WordModerator(), policy=POLICY, partitions=PARTITIONS)
    agent.attach_strikes(engine)
    return engine


def records(*texts: str, tenant: str = "acme") -> list[Record]:
    return [
        a_record(orjson.dumps({"text": text, "tenant": tenant, "id": f"id-{offset}"}), partition=5, offset=offset)
        for offset, text in enumerate(texts)
    ]


def passed(unit: FakeUnit) -> list[ModeratedPrompt]:
    sent = unit.sent_to("prompts-moderated")
    assert all(record.partition == unit.partition and record.key is None for record in sent)
    return [prompt for record in sent for prompt in frames.decode(ModeratedFrame, record.value or b"").prompts]


async def test_ordinary_prompts_go_on_in_their_order_on_their_partition() -> None:
    unit = await an_engine().run("moderation", records("one", "two", "three"), partition=5)
    assert [moderated.prompt.text for moderated in passed(unit)] == ["one", "two", "three"]
    assert [moderated.prompt.offset for moderated in passed(unit)] == [0, 1, 2]
    assert all(moderated.moderation.moderator == "words" for moderated in passed(unit))
    assert len(unit.sent) == 1, "one unit makes one frame"


async def test_a_rejected_prompt_leaves_a_record_without_its_text_on_its_tenants_partition() -> None:
    unit = await an_engine().run("moderation", records("good", "a bad one", tenant="Ångström"), partition=5)
    (sent,) = unit.sent_to("prompts-rejected")
    rejection = PromptRejected.model_validate_json(sent.value or b"")
    assert sent.key == "Ångström".encode()
    assert sent.partition == partition_of("Ångström", PARTITIONS)
    assert rejection.text_sha256 == text_hash("a bad one")
    assert rejection.moderation.categories == ("hate",)
    assert (rejection.prompt_id, rejection.partition, rejection.offset) == ("id-1", 5, 1)
    headers = dict(sent.headers)
    assert headers["ce_type"] == b"promptloom.prompt.rejected.v1"
    assert headers["ce_subject"] == "Ångström".encode()
    assert b"a bad one" not in b"".join([sent.value or b"", *headers.values()])
    assert len(passed(unit)) == 1


async def test_two_tenants_may_use_one_id_and_their_events_stay_apart() -> None:
    both = [*records("bad", tenant="acme"), *records("bad", tenant="globex")]
    unit = await an_engine().run("moderation", both, partition=5)
    identities = [(dict(sent.headers)["ce_source"], dict(sent.headers)["ce_id"]) for sent in unit.sent]
    assert len(set(identities)) == 2


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"text": ""}', b'{"text": 1}', b"\xc3\x01garbage!", b"\0"])
async def test_a_record_that_is_no_prompt_is_dead_lettered_as_it_came(value: bytes | None) -> None:
    record = a_record(value, partition=5, offset=9)
    unit = await an_engine().run("moderation", [*records("good"), record], partition=5)
    (letter,) = unit.dead_letters
    assert (letter.record, letter.stage) == (record, "moderation")
    assert len(passed(unit)) == 1


async def test_a_text_the_service_declines_is_dead_lettered_alone_and_not_quoted() -> None:
    unit = await an_engine().run("moderation", records("good", "declined secret", "bad"), partition=5)
    (letter,) = unit.dead_letters
    assert letter.record.offset == 1
    assert "secret" not in str(letter.error)
    assert len(passed(unit)) == 1
    assert len(unit.sent_to("prompts-rejected")) == 1


async def test_a_service_that_fails_fails_the_unit_so_that_the_partition_is_held() -> None:
    with pytest.raises(ServiceUnavailable):
        await an_engine().run("moderation", records("good", "down"), partition=5)


async def test_every_record_is_counted_once_as_received_and_in_one_outcome() -> None:
    unit = await an_engine().run(
        "moderation", [*records("good", "bad", "bad", "declined"), a_record(b"{", partition=5)], partition=5
    )
    assert unit.counted("prompts", outcome="received") == 5
    assert unit.counted("prompts", outcome="rejected") == 2
    assert unit.counted("rejections", category="hate") == 2
    assert unit.counted("prompts", outcome="received") == len(passed(unit)) + 2 + len(unit.dead_letters)


async def test_reported_usage_is_counted() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.25}
    record = a_record(orjson.dumps({"text": "good", "usage": usage}), partition=5)
    unit = await an_engine().run("moderation", [record, *records("good")], partition=5)
    assert unit.counted("usage_tokens", kind="prompt") == 10
    assert unit.counted("usage_tokens", kind="completion") == 5
    assert unit.counted("usage_cost_usd") == 0.25


async def test_the_same_records_give_the_same_bytes_however_they_are_cut() -> None:
    texts = ["one", "bad", "two", "bad too", "three"]
    whole = await an_engine().run("moderation", records(*texts), partition=5)
    engine = an_engine()
    parts = [await engine.run("moderation", [record], partition=5) for record in records(*texts)]
    assert [sent for unit in parts for sent in unit.sent_to("prompts-rejected")] == whole.sent_to("prompts-rejected")
    assert [prompt for unit in parts for prompt in passed(unit)] == passed(whole)


async def test_a_policy_that_names_an_unknown_category_stops_the_start() -> None:
    policy = Policy(version="1", threshold=0.5, tenants={"acme": {"hatred": 0.1}})
    with pytest.raises(SettingsInvalid, match="hatred"):
        agent.attach(FakeEngine(), read=read, moderator=WordModerator(), policy=policy, partitions=PARTITIONS)


# -- strikes


async def struck(engine: FakeEngine, *texts: str, tenant: str) -> FakeUnit:
    unit = await engine.run("moderation", records(*texts, tenant=tenant), partition=5)
    partition = partition_of(tenant, PARTITIONS)
    rejections = engine.records_of(unit, "prompts-rejected", partition=partition)
    return await engine.run("strikes", rejections, partition=partition)


async def test_strikes_add_up_by_tenant_on_the_tenants_partition() -> None:
    engine = an_engine()
    await struck(engine, "bad", "good", "bad", tenant="acme")
    await struck(engine, "bad", tenant="globex")
    await struck(engine, "bad again", tenant="acme")
    await struck(engine, "bad", "good", "bad", tenant="acme")  # the same prompts once more
    rows = engine.tables["strikes"].rows
    assert decode_strikes(rows[partition_of("acme", PARTITIONS)]["acme"]).prompts == 3
    assert decode_strikes(rows[partition_of("globex", PARTITIONS)]["globex"]).categories == {"hate": 1}


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[1]"])
async def test_a_broken_rejection_is_dead_lettered_and_the_others_count(value: bytes | None) -> None:
    engine = an_engine()
    unit = await engine.run("moderation", records("bad"), partition=5)
    partition = partition_of("acme", PARTITIONS)
    good = engine.records_of(unit, "prompts-rejected", partition=partition)
    counted = await engine.run("strikes", [a_record(value, topic="prompts-rejected"), *good], partition=partition)
    assert [letter.stage for letter in counted.dead_letters] == ["strikes"]
    assert decode_strikes(engine.tables["strikes"].rows[partition]["acme"]).prompts == 1
