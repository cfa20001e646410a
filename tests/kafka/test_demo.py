"""The demo a newcomer runs first: everything arrives, the report adds up, and nothing is left running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import embedded

EVERY_OUTCOME = ("rejected", "clustered", "unclustered", "duplicate", "dead_lettered")


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_the_demo_accounts_for_every_prompt_shows_templates_and_stops(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    data_dir = tmp_path / "data"
    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", "demo", "--report", str(report)],
        env={**os.environ, "PROMPTLOOM_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3_000:] + run.stderr[-3_000:]
    found = json.loads(report.read_text())
    assert found["prompts_in"] == sum(found[outcome] for outcome in EVERY_OUTCOME)
    assert found["prompts_in"] >= 5_000
    assert (found["rejected"], found["duplicate"], found["dead_lettered"]) == (7, 14, 0)
    assert found["templates"] > 50
    for kind in ("CREATED", "UPDATED", "SLOT_ADDED", "SLOT_REMOVED"):
        assert found["evolution_events"][kind] > 0
    assert found["postgres_rows"]["evolution_events"] == sum(found["evolution_events"].values())
    assert found["latency_ms_p50"] <= found["latency_ms_p95"]
    assert "{{" in run.stdout
    assert "next:" in run.stdout
    assert embedded.remembered(data_dir / "demo") is None
