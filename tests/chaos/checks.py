"""The difference between what was recorded and what the oracle says: lost, doubled, different.

Records are frames, and where a frame ends is the run's own affair. So both sides are taken apart into what they
say, prompt by prompt and change by change, and compared in order: every statement has a key, which must be there
once, and content, which must be the same to the byte.

Two checks need no oracle, so that a mistake which both sides share cannot hide: every record of `prompts` ends
in exactly one place, and the links of every assignment chain count up without a gap. Committed offsets have
checks of their own (offsets.py).

A comparison of nothing with nothing holds nothing: where a topic should have had records and none were expected, that
is a finding. So are records in a topic that nobody compares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.prompts import (
    CanonicalizedFrame,
    ClusterChangeKind,
    ClusteredFrame,
    EmbeddedFrame,
    ModeratedFrame,
    PromptRejected,
)
from schemas.topics import (
    DEAD_LETTERS,
    DEAD_LETTERS_REPLAYED,
    ERROR_HEADER_PREFIX,
    EVOLUTION_EVENTS,
    PROMPTS,
    PROMPTS_CANONICALIZED,
    PROMPTS_CLUSTERED,
    PROMPTS_EMBEDDED,
    PROMPTS_MODERATED,
    PROMPTS_REJECTED,
    REFINEMENTS,
    TEMPLATES,
)
from streams.engine import frames
from streams.engine.ports import Record
from tests.chaos.harvest import Harvest
from tests.chaos.load import NUMBER_HEADER
from tests.chaos.oracle import Undisturbed
from tests.chaos.watch import sources_of
from tests.fakes import DeadLetter, Sent

SAMPLE_CHARS_MAX = 300
# Switched off in replays, or used by commands that none runs.
NOT_COMPARED = (REFINEMENTS.name, DEAD_LETTERS_REPLAYED.name)


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing a record says. `lane` is where order counts: statements of two lanes may interleave."""

    lane: Hashable
    key: Hashable
    content: Hashable


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; all zero = it holds. `compared` says how much it looked at."""

    check: str
    compared: int
    lost: int = 0
    doubled: int = 0
    different: int = 0
    sample: str = ""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.different)


Published = Record | Sent


def findings(recorded: Harvest, expected: Undisturbed, sent: int, app_id: str, partitions: int) -> list[Finding]:
    """Return the outcome of every check of the topics."""
    results = [
        compare("prompts arrived", _numbers(range(sent)), _numbers(_arrived(recorded))),
        conserved(recorded),
        chained(recorded),
        Finding(
            "no transaction hangs", 1, different=len(recorded.hanging), sample=str(recorded.hanging)[:SAMPLE_CHARS_MAX]
        ),
    ]
    for topic, statements in STATEMENTS.items():
        wanted = [each for sent_there in expected.sent[topic].values() for each in sent_there]
        results.append(_not_empty(compare(topic, statements(wanted), statements(recorded.of(topic)))))
    letters = _expected_letters(expected.letters, partitions)
    results.append(_not_empty(compare(DEAD_LETTERS.name, letters, _letters(recorded.of(DEAD_LETTERS.name)))))
    strays = [record.topic for topic in NOT_COMPARED for record in recorded.of(topic)]
    results.append(Finding("no records where none belong", 1, doubled=len(strays), sample=str(Counter(strays))))
    for name, table in expected.tables.items():
        wanted_rows = {(number, key): row for number, rows in table.rows.items() for key, row in rows.items()}
        results.append(compare_rows(f"table {name}", wanted_rows, recorded.rows(f"{app_id}-{name}-changelog")))
    return results


def compare(check: str, expected: Iterable[Statement], found: Iterable[Statement]) -> Finding:
    """Compare two sides lane by lane: every key once, every content the same, in the same order."""
    lanes: dict[Hashable, tuple[list[Statement], list[Statement]]] = defaultdict(lambda: ([], []))
    for side, statements in enumerate((expected, found)):
        for statement in statements:
            lanes[statement.lane][side].append(statement)
    lost = doubled = different = compared = 0
    sample = ""
    for lane, (wanted, there) in lanes.items():
        compared += len(wanted)
        if wanted == there:
            continue
        keys_wanted, keys_there = Counter(each.key for each in wanted), Counter(each.key for each in there)
        missing, surplus = keys_wanted - keys_there, keys_there - keys_wanted
        lost += missing.total()
        doubled += surplus.total()
        changed = _changed(wanted, there) if not missing and not surplus else _contents_differ(wanted, there)
        different += len(changed)
        sample = sample or f"{lane}: lost {list(missing)[:3]}, doubled {list(surplus)[:3]}, different {changed[:2]}"
    return Finding(check, compared, lost, doubled, different, sample[:SAMPLE_CHARS_MAX])


def compare_rows(check: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> Finding:
    """Compare two tables row by row."""
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    changed = [key for key, row in expected.items() if key in found and found[key] != row]
    sample = f"lost {missing[:3]}, too many {surplus[:3]}, different {changed[:3]}"
    return Finding(check, len(expected), len(missing), len(surplus), len(changed), sample[:SAMPLE_CHARS_MAX])


def conserved(recorded: Harvest) -> Finding:
    """Every record of `prompts` ended once: in an assignment, a repeat, a rejection or a dead letter."""
    ends: Counter[tuple[int, int]] = Counter()
    for topic in (PROMPTS_CANONICALIZED.name, PROMPTS_REJECTED.name, DEAD_LETTERS.name):
        for record in recorded.of(topic):
            ends.update(sources_of(topic, record.value or b"", record.headers))
    came = Counter((record.partition, record.offset) for record in recorded.of(PROMPTS.name))
    missing, surplus = came - ends, ends - came
    sample = f"without an end {list(missing)[:5]}, with several {list(surplus)[:5]}"
    return Finding("every prompt ends once", came.total(), missing.total(), surplus.total(), 0, sample)


def chained(recorded: Harvest) -> Finding:
    """The links of each prompt are 0, 1, 2, ..., each once, each leaving the cluster the one before led to."""
    chains: dict[tuple[str, str], dict[int, tuple[str | None, str | None]]] = defaultdict(dict)
    merged: dict[str | None, str] = {}
    doubled = 0
    for record in recorded.of(PROMPTS_CANONICALIZED.name):
        frame = frames.decode(CanonicalizedFrame, record.value or b"")
        for change in frame.changes:
            if change.kind is ClusterChangeKind.MERGED:
                merged |= dict.fromkeys(change.other_cluster_ids, change.cluster_id)
        for link in (item.assignment for item in frame.prompts if not item.assignment.duplicate):
            chain = chains[link.prompt.tenant, link.prompt.prompt_id]
            doubled += link.sequence in chain
            chain[link.sequence] = link.previous_cluster_id, link.cluster_id
    gaps = [name for name, chain in chains.items() if sorted(chain) != list(range(len(chain)))]
    torn = [name for name, chain in chains.items() if name not in gaps and _torn(chain, merged)]
    sample = f"gaps {gaps[:3]}, torn {torn[:3]}"
    return Finding("chains without a gap", len(chains), len(gaps), doubled, len(torn), sample[:SAMPLE_CHARS_MAX])


def _torn(chain: Mapping[int, tuple[str | None, str | None]], merged: Mapping[str | None, str]) -> bool:
    """Return whether some link leaves a cluster that the one before did not lead to, not even through merges."""
    for number in range(1, len(chain)):
        left, led_to = chain[number][0], chain[number - 1][1]
        while led_to != left and led_to in merged:
            led_to = merged[led_to]
        if led_to != left:
            return True
    return False


def _changed(wanted: Sequence[Statement], there: Sequence[Statement]) -> list[Hashable]:
    return [one.key for one, other in zip(wanted, there, strict=True) if one != other]


def _contents_differ(wanted: Iterable[Statement], there: Iterable[Statement]) -> list[Hashable]:
    """Return the keys both sides have, with contents that only one of them has."""
    contents: dict[Hashable, set[Hashable]] = defaultdict(set)
    for each in wanted:
        contents[each.key].add(each.content)
    return [each.key for each in there if each.key in contents and each.content not in contents[each.key]]


def _numbers(numbers: Iterable[int]) -> list[Statement]:
    return [Statement("number", number, None) for number in sorted(numbers)]


def _arrived(recorded: Harvest) -> list[int]:
    return [int(dict(record.headers)[NUMBER_HEADER]) for record in recorded.of(PROMPTS.name)]


def _moderated(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        for item in frames.decode(ModeratedFrame, each.value or b"").prompts:
            prompt = item.prompt
            yield Statement(each.partition, (prompt.partition, prompt.offset), item.model_dump_json())


def _rejected(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        rejection = PromptRejected.model_validate_json(each.value or b"")
        place = rejection.partition, rejection.offset
        yield Statement((each.partition, rejection.partition), place, (each.key, each.value, tuple(each.headers)))


def _embedded(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        frame = frames.decode(EmbeddedFrame, each.value or b"")
        size = len(frame.vectors) // max(1, len(frame.prompts))
        for number, item in enumerate(frame.prompts):
            prompt, vector = item.prompt, frame.vectors[number * size : (number + 1) * size]
            lane, place = (each.partition, prompt.partition), (prompt.partition, prompt.offset)
            yield Statement(lane, place, (frame.embedder, item.model_dump_json(), vector))


def _clustered(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        for step in frames.decode(ClusteredFrame, each.value or b"").steps:
            link, change = step.assignment, step.change
            if link is not None:
                key: Hashable = (link.prompt.partition, link.prompt.offset, link.sequence)
            else:
                key = change and (change.kind, change.cluster_id, change.partition, change.offset)
            yield Statement(each.partition, key, step.model_dump_json())


def _canonicalized(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        frame = frames.decode(CanonicalizedFrame, each.value or b"")
        for item in frame.prompts:
            link = item.assignment
            place = link.prompt.partition, link.prompt.offset, link.sequence
            yield Statement((each.partition, "prompts"), place, item.model_dump_json())
        for change in frame.changes:
            place = change.partition, change.offset, change.kind, change.cluster_id
            yield Statement((each.partition, "changes"), place, change.model_dump_json())
        for told in frame.statistics:
            yield Statement((each.partition, "statistics"), told.template_id, told.model_dump_json())


def _events(published: Iterable[Published]) -> Iterable[Statement]:
    for each in published:
        event_id = dict(each.headers)["ce_id"]
        yield Statement(each.partition, event_id, (each.key, each.value, tuple(each.headers)))


def _templates(published: Iterable[Published]) -> Iterable[Statement]:
    """The newest record of each key: the topic is compacted, when is the broker's affair."""
    newest = {(each.partition, each.key): each for each in published}
    for (partition, key), each in sorted(newest.items(), key=repr):
        if each.value is not None:
            yield Statement(partition, key, (each.value, tuple(each.headers)))


def _letters(published: Iterable[Record]) -> Iterable[Statement]:
    for each in published:
        said = {name.removeprefix(ERROR_HEADER_PREFIX): text for name, text in each.headers}
        place = said["stage"], said["topic"], int(said["partition"]), int(said["offset"])
        own = tuple((name, text) for name, text in each.headers if not name.startswith(ERROR_HEADER_PREFIX))
        yield Statement((each.partition, place), place, (said["exception"], each.key, each.value, own))


def _expected_letters(letters: Iterable[DeadLetter], partitions: int) -> Iterable[Statement]:
    """Make letters by hand: what the stages make them with is under test here."""
    for each in letters:
        record = each.record
        place = each.stage.encode(), record.topic.encode(), record.partition, record.offset
        content = type(each.error).__name__.encode(), record.key, record.value, tuple(record.headers)
        yield Statement((record.partition % partitions, place), place, content)


def _not_empty(found: Finding) -> Finding:
    return found if found.compared else replace(found, different=found.different + 1, sample="nothing to compare with")


STATEMENTS: Mapping[str, Callable[[Iterable[Published]], Iterable[Statement]]] = {
    PROMPTS_MODERATED.name: _moderated,
    PROMPTS_REJECTED.name: _rejected,
    PROMPTS_EMBEDDED.name: _embedded,
    PROMPTS_CLUSTERED.name: _clustered,
    PROMPTS_CANONICALIZED.name: _canonicalized,
    EVOLUTION_EVENTS.name: _events,
    TEMPLATES.name: _templates,
}
