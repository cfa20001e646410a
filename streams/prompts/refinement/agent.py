"""evolution-events --> [refined] --> refinements

State      Table `refined`: what became of each template version that a model was asked about, by template id.
Output     At most one Refinement a template version, key tenant/cluster_id, on its tenant's partition.
Guarantee  Published exactly once with the row that remembers it. An event that comes again, in a replay or in
           another unit, gets the same record from the row and costs no question; another model or another prompt
           version asks anew. The model is asked again only when a worker dies between an answer and its commit.
Failure    An answer that breaks the rules is asked for once more, then the offline names stand. A text that the
           gateway declines keeps its offline names at once. A gateway that fails (429, 5xx, no answer, wrong key)
           holds the partition with growing pauses: the templates of its tenants wait for names, in their order,
           and nothing else waits, because no stage reads `refinements` and this stage has transactions of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from schemas import cloudevents, ids
from schemas.errors import ServiceMalformed, ServiceRefused, UndecodableRecord
from schemas.events import EvolutionEvent, TemplateVersion
from schemas.refinements import Refinement
from schemas.topics import EVOLUTION_EVENTS, REFINEMENTS
from streams.engine.ports import Handler, Table, Unit
from streams.engine.refusals import answers_or_refusals
from streams.prompts.ports import LanguageModel
from streams.prompts.refinement import logic
from streams.prompts.refinement.logic import Outcome

log = logging.getLogger(__name__)

STAGE = "refinement"
TABLE = "refined"
ATTEMPTS_MAX = 2  # a model that broke the rules twice will most likely break them again
# A model takes seconds where other stages take microseconds: units stay small, so that positions move every few
# seconds, and a worker that dies has at most so many answers to ask for again.
UNIT_RECORDS_MAX = 8
# Answers that wait for a unit another event holds; a few KiB each, and a unit of 128 partitions' worth of them.
ANSWERS_KEPT_MAX = 128 * UNIT_RECORDS_MAX


class Engine(Protocol):
    """What this room needs of the engine."""

    def stage(
        self, name: str, source_topic: str, handler: Handler, *, unit_records_max: int | None = None
    ) -> object: ...

    def table(self, name: str, *, owner: str) -> Table: ...


class Question(NamedTuple):
    """A template version to be named."""

    refinement_id: str
    event: EvolutionEvent
    template: TemplateVersion


def attach(engine: Engine, *, model: LanguageModel, examples_allowed: bool) -> None:
    """Attach the stage that asks a model for better names."""
    table = engine.table(TABLE, owner=EVOLUTION_EVENTS.name)
    desk = _Desk(model, examples_allowed)

    async def refine(unit: Unit) -> None:
        questions = _questions(unit, model.name)
        known = {question.refinement_id: _known(table, question) for question in questions}
        open_questions = [question for question in questions if known[question.refinement_id] is None]
        asked = await desk.outcomes({question.refinement_id: question for question in open_questions})
        for question in questions:
            outcome = known[question.refinement_id]
            if outcome is None:
                outcome = asked[question.refinement_id]
                known[question.refinement_id] = outcome
                table.put(question.template.template_id, outcome.model_dump_json().encode())
                unit.count("refinements", outcome=outcome.result)
                unit.count("refinement_answers_unusable", outcome.unusable)
            else:
                unit.count("refinements", outcome="repeated")
            if outcome.refinement is not None:
                _publish(unit, outcome.refinement)

    engine.stage(STAGE, EVOLUTION_EVENTS.name, refine, unit_records_max=UNIT_RECORDS_MAX)


class _Desk:
    """Asks the model, and keeps its answers while a unit that needs them is tried again."""

    def __init__(self, model: LanguageModel, examples_allowed: bool) -> None:
        self._model = model
        self._examples_allowed = examples_allowed
        self._kept: OrderedDict[str, Outcome] = OrderedDict()

    async def outcomes(self, questions: dict[str, Question]) -> dict[str, Outcome]:
        """Return what became of each question.

        Raises:
            ServiceError: the gateway fails; answers that came all the same are kept for the next attempt.
        """
        missing = [question for name, question in questions.items() if name not in self._kept]
        results = await asyncio.gather(*map(self._ask, missing), return_exceptions=True)
        for question, result in zip(missing, results, strict=True):
            if isinstance(result, Outcome):
                self._kept[question.refinement_id] = result
        for result in results:
            if isinstance(result, BaseException):
                raise result
        found = {name: self._kept[name] for name in questions}
        while len(self._kept) > ANSWERS_KEPT_MAX:
            self._kept.popitem(last=False)
        return found

    async def _ask(self, question: Question) -> Outcome:
        """Return what became of one question; the model is asked at most ATTEMPTS_MAX times."""
        text = logic.request_of(question.template, examples_allowed=self._examples_allowed)
        nothing = Outcome(refinement_id=question.refinement_id, result="unusable", unusable=ATTEMPTS_MAX)
        cause = ""
        for attempt in range(ATTEMPTS_MAX):
            try:
                (said,) = await answers_or_refusals(self._complete, [text])
                if isinstance(said, ServiceRefused):
                    nothing = nothing.model_copy(update={"result": "declined", "unusable": attempt})
                    cause = str(said)
                    break
                answer = logic.answer_of(said, question.template)
            except ServiceMalformed as error:
                cause = str(error)
                continue
            refinement = logic.refinement_of(question.event, question.template, answer, self._model.name)
            return Outcome(
                refinement_id=question.refinement_id, result="refined", unusable=attempt, refinement=refinement
            )
        log.warning(
            "template keeps its offline names",
            extra={
                "template_id": question.template.template_id,
                "event_id": question.event.event_id,
                "result": nothing.result,
                "cause": cause,
            },
        )
        return nothing

    async def _complete(self, texts: Sequence[str]) -> list[str]:
        return [await self._model.complete(logic.INSTRUCTIONS, text) for text in texts]


def _questions(unit: Unit, model: str) -> list[Question]:
    """Return what the unit's events ask for; a record that cannot be read goes to the dead letters."""
    questions = []
    for record in unit.records:
        try:
            event = EvolutionEvent.model_validate_json(record.value or b"")
        except ValidationError as error:  # it quotes its input, so it is not chained
            problem = f"reading an evolution event: {error.error_count()} field(s) are invalid"
            unit.dead_letter(record, UndecodableRecord(problem), stage=STAGE)
            continue
        if event.type in logic.REFINED and event.template is not None:
            name = ids.refinement_id(event.event_id, model, logic.PROMPT_VERSION)
            questions.append(Question(name, event, event.template))
    return questions


def _known(table: Table, question: Question) -> Outcome | None:
    """Return what became of the version before, if the same was asked."""
    row = table.get(question.template.template_id)
    outcome = None if row is None else logic.outcome_of_row(row)
    return outcome if outcome is not None and outcome.refinement_id == question.refinement_id else None


def _publish(unit: Unit, refinement: Refinement) -> None:
    key = f"{refinement.tenant}/{refinement.cluster_id}"
    unit.send(
        REFINEMENTS.name,
        refinement.model_dump_json().encode(),
        partition=unit.partition,
        key=key.encode(),
        headers=cloudevents.headers(
            event_id=refinement.refinement_id,
            event_type=cloudevents.TEMPLATE_REFINED,
            source=f"/promptloom/refinement/{quote(refinement.tenant, safe='')}",
            time_ms=refinement.occurred_at_ms,
            subject=key,
        ),
    )
