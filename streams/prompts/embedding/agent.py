"""prompts-moderated --> prompts-embedded

State      None: the cache of vectors is the embedder's own and changes no answer.
Output     EmbeddedFrames, each on the partition of its tenants, in the order of the input.
Guarantee  A prompt leaves with a vector of the announced embedder, or alone to the dead letters when the
           service declines its text. A service that fails holds the partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from schemas.errors import InvalidPrompt, ServiceRefused, UndecodableRecord
from schemas.prompts import ModeratedFrame, ModeratedPrompt
from schemas.topics import PROMPTS_EMBEDDED, PROMPTS_MODERATED
from streams.engine import frames
from streams.engine.ports import Handler, Piece, Record, Split, Unit, WriterSchemas
from streams.engine.refusals import answers_or_refusals
from streams.prompts import ingest
from streams.prompts.embedding import logic
from streams.prompts.ports import Embedder

STAGE = "embedding"


class Engine(Protocol):
    """What this room needs of the engine."""

    def stage(self, name: str, source_topic: str, handler: Handler, *, split: Split | None = None) -> object: ...


def attach(engine: Engine, *, embedder: Embedder, schemas: WriterSchemas, partitions: int) -> None:
    """Attach the stage that embeds prompts and sends them where their tenant lives."""

    async def embed(unit: Unit) -> None:
        prompts = [moderated for record in unit.records for moderated in await _prompts(unit, record, schemas)]
        answers = await answers_or_refusals(embedder.embed, [moderated.prompt.text for moderated in prompts])
        embedded = []
        for moderated, answer in zip(prompts, answers, strict=True):
            if isinstance(answer, ServiceRefused):
                error = InvalidPrompt(f"embedding a prompt: {embedder.name} declined its text")
                ingest.refuse(unit, ingest.as_received(moderated.prompt), error, stage=STAGE)
            else:
                embedded.append((moderated, answer))
        for partition, frame in logic.embedded_frames(
            embedded, embedder=embedder.name, dimension=embedder.dimension, partitions=partitions
        ):
            unit.send(PROMPTS_EMBEDDED.name, frames.encode(frame), partition=partition)

    engine.stage(STAGE, PROMPTS_MODERATED.name, embed, split=_pieces)


def _pieces(record: Record) -> Sequence[Piece]:
    """Return each prompt of a frame as a frame of its own, and as it was received."""
    return [
        Piece(
            replace(record, value=frames.encode(ModeratedFrame(prompts=(moderated,)))),
            ingest.as_received(moderated.prompt),
            ingest.DEAD_LETTERED,
        )
        for moderated in frames.decode(ModeratedFrame, record.value or b"").prompts
    ]


async def _prompts(unit: Unit, record: Record, schemas: WriterSchemas) -> tuple[ModeratedPrompt, ...]:
    """Return the prompts of one frame; a broken frame goes to the dead letters."""
    try:
        frame = await frames.read(ModeratedFrame, record.value, schemas)
    except UndecodableRecord as error:
        unit.dead_letter(record, error, stage=STAGE)
        return ()
    return frame.prompts
