"""Measure an embedder on a tenant's own prompts, and keep what was measured where workers find it.

The file (`clustering.calibration` of the settings) holds one entry an embedder and tenant. A worker reads it at its
start only, and each decision names the threshold in its policy version: so what was decided can be understood, and
a threshold never changes under way. Workers of one application must be given the same file.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import SettingsInvalid
from streams.prompts.calibration.logic import Calibration, calibrate
from streams.prompts.clustering.policy import Policy
from streams.prompts.mine import Advance, Encode, Miner, Space, Summary
from streams.settings import Settings

FILE_NAME = "calibration.json"
STRUCTURE_ALONE = Policy(meaning_min=2.0)  # no cosine reaches it: the groups must not depend on what is measured


class Entry(BaseModel):
    """What was measured for one embedder and tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedder: str
    tenant: str
    meaning_min: float = Field(gt=-1, lt=1)
    prompts: int
    clusters: int
    random: dict[int, float]
    members: dict[int, float]
    strangers: dict[int, float]
    members_reached: float
    strangers_reached: float


class CalibrationFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    entries: tuple[Entry, ...] = ()


def measured(
    path: Path, space: Space, encode: Encode, advance: Advance = lambda _: None
) -> tuple[Calibration, Summary]:
    """Group the prompts of a file by structure alone and measure how near their vectors lie."""
    batches: list[NDArray[np.float32]] = []

    def kept(texts: list[str]) -> NDArray[np.float32]:
        batches.append(encode(texts))
        return batches[-1]

    miner = Miner(path, space, kept, policy=STRUCTURE_ALONE)
    for _ in miner.learn(advance):
        pass  # what evolves is not asked for
    homes = [prediction["cluster_id"] for prediction in miner.predictions(advance)]
    vectors = np.concatenate(batches) if batches else np.zeros((0, space.dimension), dtype=np.float32)
    return calibrate(vectors, homes), miner.summary


def path_of(settings: Settings) -> Path:
    """Return where calibrations are kept."""
    named = settings.clustering.calibration
    return Path(named).expanduser() if named else settings.data_dir / FILE_NAME


def policy_of(settings: Settings) -> Policy:
    """Return the clustering policy with every calibration that is kept.

    Raises:
        SettingsInvalid: the settings name a file that is not there, or it is no calibration file.
    """
    path = path_of(settings)
    if settings.clustering.calibration and not path.is_file():
        raise SettingsInvalid(
            f"reading clustering.calibration: {path} is not a file",
            hint="promptloom calibrate writes it; leave the setting empty to go without",
        )
    return Policy(calibrated={(entry.embedder, entry.tenant): entry.meaning_min for entry in read(path).entries})


def read(path: Path) -> CalibrationFile:
    """Return what a file holds; nothing if there is none."""
    if not path.is_file():
        return CalibrationFile()
    try:
        return CalibrationFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SettingsInvalid(
            f"reading {path}: {place}: {first['msg']}", hint="delete the file and run promptloom calibrate again"
        ) from None


def store(path: Path, embedder: str, tenant: str, calibration: Calibration) -> None:
    """Put a calibration into the file, in place of an earlier one of the same embedder and tenant."""
    others = [entry for entry in read(path).entries if (entry.embedder, entry.tenant) != (embedder, tenant)]
    entry = Entry(embedder=embedder, tenant=tenant, **asdict(calibration))
    entries = tuple(sorted([*others, entry], key=lambda entry: (entry.embedder, entry.tenant)))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside it and moved: a worker that starts meanwhile reads the old file or the new one.
    beside = path.with_suffix(".tmp")
    beside.write_text(CalibrationFile(entries=entries).model_dump_json(indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
