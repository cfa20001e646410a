"""Committed offsets against what is there: every record is behind them, and nothing that is not there yet.

No output shows an offset that lies too far: records that come later are skipped, and only by a worker that starts
later. Nor does it show a row that knows of records after the committed offset: it is refused, at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.engine.tables import position_of
from tests.chaos.checks import Finding
from tests.chaos.harvest import Harvest, Place


def findings(
    recorded: Harvest, sources: Iterable[str], owners: Mapping[str, str], committed: Mapping[Place, int]
) -> list[Finding]:
    """Return the outcome of both checks; `owners` are the source topics of changelogs."""
    return [_at_the_end(recorded, sources, committed), _behind_the_offsets(recorded, owners, committed)]


def _at_the_end(recorded: Harvest, sources: Iterable[str], committed: Mapping[Place, int]) -> Finding:
    places = [(topic, number) for topic in sources for number in recorded.records[topic]]
    wrong = {
        place: (committed.get(place, -1), recorded.ends[place])
        for place in places
        if not recorded.last_offset(place) < committed.get(place, -1) <= recorded.ends[place]
    }
    return Finding("offsets committed to the end", len(places), different=len(wrong), sample=str(wrong)[:300])


def _behind_the_offsets(recorded: Harvest, owners: Mapping[str, str], committed: Mapping[Place, int]) -> Finding:
    rows = [(record, owner) for changelog, owner in owners.items() for record in recorded.of(changelog)]
    ahead = [
        (record.topic, record.partition, record.offset)
        for record, owner in rows
        # Every row says by which position it was reached; 0 = it does not.
        if not 0 < position_of(record.headers) <= committed.get((owner, record.partition), -1)
    ]
    return Finding("rows behind the offsets", len(rows), different=len(ahead), sample=str(ahead[:5]))
