"""The short set: one small replay whose workers and broker are killed, a worker frozen, the sink cut off and killed.

`make chaos SEED=n` runs the long one.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.chaos.replay import replay
from tests.chaos.scenarios import SHORT

log = logging.getLogger(__name__)

SEED = 1


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_broker_and_workers_killed_and_a_sink_cut_off_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    result = replay(SHORT, SEED, tmp_path, log.info)
    assert result.problems == []
    assert [finding for finding in result.findings if not finding.clean] == []
    assert all(finding.compared for finding in result.findings if finding.check.startswith("prompts-"))
    assert len(result.faults) == len(SHORT.stream) + len(SHORT.catalogue)
    assert result.starts > SHORT.conditions.workers + 1, "nothing was started again: nothing was killed"
