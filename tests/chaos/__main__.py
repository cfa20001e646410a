"""`make chaos SEED=n`: run every scenario of a seed and judge it. Exit code 1 on any difference.

Ends by itself: each scenario has a limit, and its processes and services end with this one, however that ends.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from streams.settings import load
from tests.chaos import report
from tests.chaos.replay import replay
from tests.chaos.scenarios import LONG, Scenario

SCENARIO_SECONDS_MAX = 600.0  # 60 to 180 on two idle cores; much more beside other work
EXIT_DIFFERENT, EXIT_TOO_LONG = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit code."""
    options = _options(arguments)
    folder: Path = (options.folder or load().data_dir / "chaos") / f"seed-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [scenario for scenario in LONG if not options.only or scenario.name in options.only]
    rows = [_row(scenario, options.seed, folder, fresh=options.fresh) for scenario in chosen]
    say("\n" + report.write_table(folder, rows))
    say(f"written to {folder}/table.md and table.json; every run is logged in {folder.parent}/runs.jsonl")
    dirty = [row["scenario"] for row in rows if not row["clean"]]
    if not dirty:
        say("clean: nothing lost, nothing doubled, nothing different")
        return 0
    say(f"not clean: {', '.join(dirty)}; data and logs are kept in {folder}")
    say(f"to run it again: make chaos SEED={options.seed} ONLY={dirty[0]}")
    return EXIT_DIFFERENT


def _row(scenario: Scenario, seed: int, folder: Path, *, fresh: bool) -> report.Row:
    """Run a scenario, unless it was clean on the very same code already."""
    code = report.fingerprint()
    known = report.saved(folder, scenario.name)
    if known and known["clean"] and known["code"] == code and not fresh:
        say(f"== {scenario.name}: clean on this code already, skipped")
        return known
    place = folder / scenario.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    started_at = time.monotonic()
    say(f"== {scenario.name}, seed {seed}: {len(scenario.stream) + len(scenario.catalogue)} faults")
    watchdog = threading.Timer(SCENARIO_SECONDS_MAX, _too_long, (scenario.name,))
    watchdog.daemon = True
    watchdog.start()
    result = replay(scenario, seed, place, lambda text: say(f"{time.monotonic() - started_at:6.1f} s  {text}"))
    watchdog.cancel()
    if result.clean:
        shutil.rmtree(place / "data", ignore_errors=True)  # logs stay
    say(f"== {scenario.name}: {'clean' if result.clean else 'NOT CLEAN'} in {result.seconds:.0f} s")
    return report.save(folder, result, code)


def _too_long(name: str) -> None:
    faulthandler.dump_traceback()
    say(f"{name} has taken {SCENARIO_SECONDS_MAX:g} s: given up. What is finished is kept; run the seed again")
    os._exit(EXIT_TOO_LONG)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides prompts, faults and their moments")
    parser.add_argument("--only", action="append", choices=[scenario.name for scenario in LONG], default=[])
    parser.add_argument("--fresh", action="store_true", help="run again what was clean on this code")
    parser.add_argument("--folder", type=Path, help="default: chaos/ in the data folder")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
