"""prompts --> prompts-moderated | prompts-rejected --> [strikes]

State      Table `strikes`: one row a tenant, on the tenant's partition, owned by the agent of `prompts-rejected`.
Output     ModeratedFrames on the partition the prompts came from, in their order; PromptRejected as JSON,
           keyed by tenant on the tenant's partition, without the text.
Guarantee  A record ends in exactly one place: moderated, rejected or dead-lettered. A service that fails
           holds the partition; a text that the service alone declines is dead-lettered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from pydantic import ValidationError

from schemas import cloudevents
from schemas.errors import InputError, InvalidPrompt, ServiceRefused, UndecodableRecord
from schemas.ids import derive
from schemas.prompts import ModeratedFrame, ModeratedPrompt, Prompt, PromptRejected
from schemas.topics import PROMPTS, PROMPTS_MODERATED, PROMPTS_REJECTED
from streams.engine import frames
from streams.engine.partitioning import partition_of
from streams.engine.ports import Handler, Piece, Record, Split, Table, Unit
from streams.engine.refusals import answers_or_refusals
from streams.prompts import ingest
from streams.prompts.moderation import logic
from streams.prompts.ports import Moderator

STAGE = "moderation"
STRIKES_STAGE = "strikes"
STRIKES_TABLE = "strikes"

Read = Callable[[Record], Awaitable[Prompt]]


class Engine(Protocol):
    """What this room needs of the engine."""

    def stage(self, name: str, source_topic: str, handler: Handler, *, split: Split | None = None) -> object: ...

    def table(self, name: str, *, owner: str, row_format: int = 1) -> Table: ...


def attach(engine: Engine, *, read: Read, moderator: Moderator, policy: logic.Policy, partitions: int) -> None:
    """Attach the stage that judges prompts. `read` raises InputError for a record that is no prompt."""
    policy.require_categories(moderator.categories)

    async def moderate(unit: Unit) -> None:
        received = await _received(unit, read)
        texts = [prompt.text for _, prompt in received]
        answers = await answers_or_refusals(moderator.score, texts)
        passed = []
        for (record, prompt), answer in zip(received, answers, strict=True):
            if isinstance(answer, ServiceRefused):
                error = InvalidPrompt(f"moderating a prompt: {moderator.name} declined its text")
                ingest.refuse(unit, record, error, stage=STAGE)
                continue
            moderation = logic.verdict(answer, policy, prompt.tenant, moderator.name)
            if moderation.allowed:
                passed.append(ModeratedPrompt(prompt=prompt, moderation=moderation))
            else:
                _reject(unit, logic.rejected(prompt, moderation), partitions)
        _pass_on(unit, passed)

    engine.stage(STAGE, PROMPTS.name, moderate, split=_pieces)


def attach_strikes(engine: Engine) -> None:
    """Attach the agent that counts rejections by tenant."""
    table = engine.table(STRIKES_TABLE, owner=PROMPTS_REJECTED.name, row_format=logic.STRIKES_FORMAT)

    async def count_strikes(unit: Unit) -> None:
        for record in unit.records:
            try:
                rejection = PromptRejected.model_validate_json(record.value or b"")
            except ValidationError as error:
                problem = UndecodableRecord(f"reading a rejection: {error.error_count()} fields are invalid")
                unit.dead_letter(record, problem, stage=STRIKES_STAGE)
                continue
            strikes = logic.decode_strikes(table.get(rejection.tenant))
            table.put(rejection.tenant, logic.encode_strikes(logic.strike(strikes, rejection)))

    engine.stage(STRIKES_STAGE, PROMPTS_REJECTED.name, count_strikes)


def _pieces(record: Record) -> Sequence[Piece]:
    """A record is one prompt, so there is one piece: it says what is counted when it is refused."""
    return [Piece(record, record, (("prompts", {"outcome": "received"}), *ingest.DEAD_LETTERED))]


async def _received(unit: Unit, read: Read) -> list[tuple[Record, Prompt]]:
    received = []
    for record in unit.records:
        unit.count("prompts", outcome="received")
        try:
            prompt = await read(record)
        except InputError as error:
            ingest.refuse(unit, record, error, stage=STAGE)
            continue
        received.append((record, prompt))
        if prompt.usage is not None:
            unit.count("usage_tokens", prompt.usage.prompt_tokens, kind="prompt")
            unit.count("usage_tokens", prompt.usage.completion_tokens, kind="completion")
            unit.count("usage_cost_usd", prompt.usage.cost_usd)
    return received


def _reject(unit: Unit, rejection: PromptRejected, partitions: int) -> None:
    unit.count("prompts", outcome="rejected")
    for category in rejection.moderation.categories:
        unit.count("rejections", category=category)
    unit.send(
        PROMPTS_REJECTED.name,
        rejection.model_dump_json().encode(),
        partition=partition_of(rejection.tenant, partitions),
        key=rejection.tenant.encode(),
        headers=cloudevents.headers(
            # A prompt's id is unique in its tenant only.
            event_id=derive("rejected", rejection.tenant, rejection.prompt_id),
            event_type=cloudevents.PROMPT_REJECTED,
            source="/promptloom/moderation",
            time_ms=rejection.created_at_ms,
            subject=rejection.tenant,
        ),
    )


def _pass_on(unit: Unit, passed: Sequence[ModeratedPrompt]) -> None:
    for batch in frames.batches(passed, lambda moderated: frames.prompt_bytes(moderated.prompt)):
        frame = ModeratedFrame(prompts=tuple(batch))
        unit.send(PROMPTS_MODERATED.name, frames.encode(frame), partition=unit.partition)
