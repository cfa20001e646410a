"""What is remembered of one cluster: its template and versions, a bounded pool of texts, its slots' sketches.

Pure. The pool holds three kinds of texts. *Recent* ones are the newest members, in order: evolution is seen in them.
*Base* ones stand for all members before: a member that leaves the recent ones becomes a base text if the hash of
its id is among the smallest (a bottom-k sample: uniform over the cluster's life, whatever the order or batch).
*Odd* ones are the last members that no version parsed: enough of them, and something is to be learnt.

A text is kept by what is particular to it: long slot values are shortened to their two ends, since alignment and
evolution need their edges and their style, not their length.

What is stored nowhere follows from what is: how a text was last read, which places are free. It is kept because
looks at the newest members ask for it over and over; there is one such reading for each kept text, no longer than it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import xxhash

from schemas import ids
from schemas.prompts import Assignment
from streams.prompts.canonicalization.slots import Sketch
from streams.prompts.canonicalization.template import Template
from streams.prompts.canonicalization.tokens import without_middle

RECENT_MAX = 16  # newest members; twice what must agree on a new version
BASE_MAX = 24  # members that stand for the rest: a constant they all hold is no accident
VALUE_CHARS_MAX = 600  # kept of a slot value, half from each end
TEXT_CHARS_MAX = 8_000  # kept of a text that no template explains yet
POOL_CHARS_MAX = 48_000  # of all texts of a cluster: compressed about 16 KiB
RECENT_MIN = 8
BASE_MIN = 6
ODD_MAX = 12  # what a refinement is learnt from, beside the base
FIRST_LESSON = 6  # members; before, a template would be mostly accident
FIRST_LOOK = 8  # members of a version before the newest are looked at
HISTORY_MAX = 8  # earlier versions that stragglers are still read with

# The centre of a young cluster still moves: how near its first members were to it says nothing.
MEANING_MEMBERS_MIN = 48
MEANING_UNKNOWN = 0

# How a member was read: by the current version, by an earlier one, by none.
CURRENT, EARLIER, STRANGE = 0, 1, 2


class Sample:
    """A kept member: `meaning` is its cosine to the cluster's centre in millionths, `reading` what parses it.

    `arrived` is when it came, in the tenant's prompts. One a prompt is made, so it is no dataclass.
    """

    __slots__ = ("_read_with", "_values", "arrived", "meaning", "priority", "prompt_id", "reading", "text")

    def __init__(self, prompt_id: str, text: str, meaning: int, reading: int, arrived: int) -> None:
        self.prompt_id, self.text, self.meaning = prompt_id, text, meaning
        self.reading, self.arrived = reading, arrived
        self.priority = (xxhash.xxh3_64_intdigest(prompt_id.encode("utf-8", "surrogatepass")), prompt_id)
        # How the text was last read: looks at the newest members ask for the same again and again. Never stored.
        self._read_with: Template | None = None
        self._values: list[str] | None = None

    def values(self, template: Template) -> list[str] | None:
        """Return what the text fills the slots of a template with, or None where that does not parse it."""
        if self._read_with is not template:
            self.remember(template, template.parse(self.text))
        return self._values

    def remember(self, template: Template, values: list[str] | None) -> None:
        """Take note of how a template parses the text."""
        self._read_with, self._values = template, values


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a template as the state keeps it."""

    number: str
    template: Template
    template_id: str


class Read(NamedTuple):
    """A text read with an announced version; `values` is None where none parses it."""

    reading: int
    version: Version
    values: list[str] | None


@dataclass(slots=True)
class ClusterState:
    cluster_id: str
    born_at: int  # the tenant's prompt count at its first member
    members: int = 0
    arrivals: list[int] = field(default_factory=list)  # of the newest members, in the tenant's prompts
    newest_id: str = ""
    partition: int = 0
    offset: int = -1
    received_at_ms: int = 0
    occurred_at_ms: int = 0
    family_id: str | None = None
    template: Template | None = None
    versions: list[Version] = field(default_factory=list)  # announced ones, newest last
    ranked: list[Version] = field(default_factory=list)  # the same as texts are read with them, or none; never stored
    since_version: int = 0  # members since the newest version, or since the template last changed
    steady: int = 0  # members in a row that parsed
    learn_at: int = FIRST_LESSON  # members at which the template is learnt again
    look_at: int = 0  # members at which drift is looked for again
    earlier: int = 0  # members since the newest version that only an earlier one parses
    strange: int = 0  # members since the newest version that no version parses
    drifts: int = 0  # told since the newest version
    succeeded_by: str | None = None
    split_from: str | None = None  # the cluster this one was part of
    varied: Template | None = None  # the wording that the newest version let vary, where that was worded anew for long
    loosened: bool = False  # members left: what only they kept apart may be one
    pool: dict[int, Sample] = field(default_factory=dict)
    pool_chars: int = 0  # of all texts in it; follows from them, never stored
    vacant: list[int] = field(default_factory=list)  # places left free below others, as a heap; never stored either
    recent: list[int] = field(default_factory=list)
    base: list[int] = field(default_factory=list)  # in ascending order of priority
    sketches: list[Sketch] = field(default_factory=list)
    odd: list[int] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)  # places of the pool written since the last save
    stored: set[int] = field(default_factory=set)  # places that have a row
    packed: tuple[tuple[Template | Version | None, ...], bytes] | None = None  # the wording as last stored; not stored

    def meaning_of(self, assignment: Assignment) -> int:
        """Return how near a new member is to the centre, as a `Sample` keeps it."""
        settled = self.members >= MEANING_MEMBERS_MIN
        return round(assignment.decision.nearest_meaning * 1e6) if settled else MEANING_UNKNOWN

    @property
    def version(self) -> Version | None:
        return self.versions[-1] if self.versions else None

    def templates(self) -> list[Template]:
        """Return the announced templates, newest last."""
        return [version.template for version in self.versions]

    def recents(self) -> Iterator[Sample]:
        return map(self.pool.__getitem__, self.recent)

    def bases(self) -> Iterator[Sample]:
        return map(self.pool.__getitem__, self.base)

    def odds(self) -> Iterator[Sample]:
        return map(self.pool.__getitem__, self.odd)

    def samples(self) -> list[Sample]:
        return [*self.bases(), *self.odds(), *self.recents()]

    def suspects(self) -> list[Sample]:
        """Return the kept members that no version parses, oldest first."""
        return [sample for sample in (*self.odds(), *self.recents()) if sample.reading == STRANGE]

    def keep(self, sample: Sample, *, recent: bool) -> None:
        """Take a member into the pool; what no longer fits leaves it."""
        place = heappop(self.vacant) if self.vacant else len(self.pool)  # the first free one
        self.pool[place] = sample
        self.pool_chars += len(sample.text)
        self.changed.add(place)
        if recent:
            self.recent.append(place)
            while len(self.recent) > RECENT_MAX:
                self._to_base(self.recent.pop(0))
        else:
            self._to_base(place)
        if self.pool_chars <= POOL_CHARS_MAX:
            return
        while self.chars() > POOL_CHARS_MAX and (len(self.base) > BASE_MIN or len(self.recent) > RECENT_MIN):
            self._drop(self.base.pop() if len(self.base) > BASE_MIN else self.recent.pop(0))

    def restore(self, place: int, sample: Sample) -> None:
        """Put a stored member back; they come in the order of their places."""
        self.vacant += range(len(self.pool) + len(self.vacant), place)
        self.pool[place] = sample
        self.pool_chars += len(sample.text)
        self.stored.add(place)

    def _to_base(self, place: int) -> None:
        sample = self.pool[place]
        if sample.reading == EARLIER:
            self._drop(place)
        elif sample.reading == STRANGE:
            self.odd.append(place)
            if len(self.odd) > ODD_MAX:
                self._drop(self.odd.pop(0))
        elif len(self.base) == BASE_MAX and sample.priority >= self.pool[self.base[-1]].priority:
            self._drop(place)  # as most members do, once there were many
        else:
            insort(self.base, place, key=lambda kept: self.pool[kept].priority)
            if len(self.base) > BASE_MAX:
                self._drop(self.base.pop())

    def _drop(self, place: int) -> None:
        self.pool_chars -= len(self.pool.pop(place).text)
        heappush(self.vacant, place)
        self.changed.add(place)

    def chars(self) -> int:
        """Return how many characters the kept texts take, beside the template's own."""
        constant = self.template.constant_chars if self.template else 0
        return self.pool_chars - constant * len(self.pool)

    def forget(self, prompt_id: str) -> None:
        """Let go of a member that moved elsewhere."""
        self.members -= 1
        self.loosened = True
        self._remove(lambda sample: sample.prompt_id == prompt_id)

    def keep_only(self, texts: set[str]) -> None:
        """Let only these texts stand for the cluster: a new wording begins with its own."""
        self._remove(lambda sample: sample.text not in texts)

    def _remove(self, leaves: Callable[[Sample], bool]) -> None:
        for place in [place for place, sample in self.pool.items() if leaves(sample)]:
            for role in (self.recent, self.base, self.odd):
                if place in role:
                    role.remove(place)
            self._drop(place)

    def readers(self) -> list[tuple[Template, str | None]]:
        """Return what a text may be read with, best first; the latest lesson stands for the newest version."""
        if self.template is None:
            return []
        latest = (self.template, self.versions[-1].number if self.versions else None)
        earlier = [(version.template, version.number) for version in reversed(self.versions[:-1])]
        return sorted([latest, *earlier], key=lambda reader: -reader[0].constant_chars)

    def read(self, text: str) -> Read:
        """Read a text with the announced version that leaves least of it to the slots, the newest of equals."""
        current = self.versions[-1]
        if not self.ranked:
            self.ranked = sorted(self.versions, key=lambda version: version.template.constant_chars)[::-1]
        for version in self.ranked:
            values = version.template.parse(text)
            if values is not None:
                return Read(CURRENT if version is current else EARLIER, version, values)
        return Read(STRANGE, current, None)

    def count(self, values: list[str]) -> None:
        """Take the slot values of a member into the statistics."""
        for sketch, value in zip(self.sketches, values, strict=True):
            sketch.add(value)

    def begin(self, template: Template, number: str, *, instead_of: int = 0) -> None:
        """Make a template the newest version; its statistics begin with the texts at hand.

        Args:
            instead_of: so many of the newest versions were mistakes about the same prompts: none is read with them.
        """
        self.template = template
        kept = self.versions[: max(0, len(self.versions) - instead_of)]
        self.versions, self.ranked = [*kept[1 - HISTORY_MAX :], self._version(number, template)], []
        self.loosened, self.varied = False, None
        self.sketches = [Sketch() for _ in range(template.slots)]
        reads = {place: self.read(sample.text) for place, sample in self.pool.items()}
        for place, read in reads.items():
            self.pool[place].reading = read.reading
            self.pool[place].remember(read.version.template, read.values)
        self.changed.update(self.pool)
        older, self.base, self.odd = sorted([*self.base, *self.odd]), [], []
        for place in older:
            self._to_base(place)
        for place in (*self.base, *self.odd, *self.recent):
            # What an earlier version reads better counts for this one as well.
            read = reads[place]
            values = self.pool[place].values(template) if read.reading == EARLIER else read.values
            if values is not None:
                self.count(values)
        self.since_version = self.strange = self.earlier = self.drifts = 0
        self.look_at = FIRST_LOOK

    def renumber(self, number: str) -> None:
        """Give the newest version another number, before anyone has heard of it."""
        self.versions[-1], self.ranked = self._version(number, self.versions[-1].template), []

    def _version(self, number: str, template: Template) -> Version:
        return Version(number, template, ids.template_id(self.cluster_id, number))

    def begin_anew(self) -> None:
        """Let the newest members stand for the cluster: its values come from elsewhere now."""
        outdated = [*self.base, *self.recent[:-RECENT_MIN]]
        self.base, self.recent = [], self.recent[-RECENT_MIN:]
        for place in outdated:
            self._drop(place)
        self.since_version, self.look_at = 0, FIRST_LOOK
        self.drifts += 1

    def absorb(self, other: ClusterState) -> None:
        """Take in a cluster that was merged into this one."""
        self.members += other.members
        for sample in other.samples():
            reading = self.read(sample.text).reading if self.versions else CURRENT
            self.keep(Sample(sample.prompt_id, sample.text, sample.meaning, reading, sample.arrived), recent=False)
            self.strange += reading == STRANGE
        self.learn_at = self.members + 1


def shortened(text: str, template: Template | None, values: list[str] | None) -> str:
    """Return what is kept of a text: all constants, and of each long value its two ends."""
    if template is None or values is None:
        return without_middle(text, TEXT_CHARS_MAX)
    if len(text) <= VALUE_CHARS_MAX or max(map(len, values), default=0) <= VALUE_CHARS_MAX:
        return text
    parts = [template.constants[0]]
    for value, constant in zip(values, template.constants[1:], strict=True):
        parts += [without_middle(value, VALUE_CHARS_MAX), constant]
    return "".join(parts)
