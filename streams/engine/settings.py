"""The settings of the engine: what any app that runs on it may set."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.limits import FRAME_PROMPTS_MAX


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(Section):
    app_id: str = Field(description="consumer group, and the beginning of the names of changelogs and transactions")
    unit_records_max: int = Field(FRAME_PROMPTS_MAX, ge=1, le=4096, description="records in one unit of work")
    unit_wait_ms: int = Field(40, ge=0, le=1000, description="least pause between a commit and a unit that is not full")
    commit_interval_ms: int = Field(100, ge=1, le=60_000)
    session_timeout_s: float = Field(8.0, ge=6, le=300)
    group_instance_id: str = Field("", description="set for static membership (orchestrated restarts)")
    store: Literal["memory", "rocksdb"] = Field(
        "memory", description="rocksdb keeps a copy of the state in the data folder: large state is back faster"
    )
