"""What changes: the records of `evolution-events` and `templates`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from schemas.prompts import Model


class EvolutionType(StrEnum):
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    SLOT_ADDED = "SLOT_ADDED"
    SLOT_REMOVED = "SLOT_REMOVED"
    DRIFT_DETECTED = "DRIFT_DETECTED"
    CLUSTER_MERGED = "CLUSTER_MERGED"
    CLUSTER_SPLIT = "CLUSTER_SPLIT"
    FAMILY_SPLIT = "FAMILY_SPLIT"
    FAMILY_MERGED = "FAMILY_MERGED"
    RETIRED = "RETIRED"
    REVIVED = "REVIVED"


class SlotType(StrEnum):
    NUMBER = "number"
    INTEGER = "integer"
    DATE = "date"
    TIME = "time"
    URL = "url"
    EMAIL = "email"
    PATH = "path"
    CODE = "code"
    JSON = "json"
    ENUM = "enum"
    LANGUAGE = "language"
    NAME = "name"
    TEXT_SHORT = "text_short"
    TEXT_LONG = "text_long"


class Slot(Model):
    """One slot of a template version, with what its values were when the version was made.

    `detail` holds what the type adds: `{"values": [...]}` of an enum, `{"language": "python"}` of code.
    `statistics` holds distinct, length percentiles (characters) and top values.
    """

    name: str
    position: int
    type: SlotType
    optional: bool = False
    repeated: bool = False
    confidence: float = 0.0
    examples: tuple[str, ...] = ()
    detail: dict[str, Any] = {}
    statistics: dict[str, Any] = {}


class TemplateVersion(Model):
    """One immutable version of a cluster's template; the record of `templates` is the newest one.

    `template` is the text with `{{name}}` for each slot. Literal braces of the prompts stay as they are:
    a slot's name never equals a literal `{{x}}` of its own template.
    """

    template_id: str
    tenant: str
    cluster_id: str
    family_id: str | None
    family_name: str = ""
    name: str = ""
    description: str = ""
    version: str  # semantic: major.minor.patch
    template: str
    slots: tuple[Slot, ...]
    confidence: float
    members: int  # prompts of the cluster when the version was made
    created_at_ms: int  # event time of the prompt that made it


class EvolutionEvent(Model):
    """A record of `evolution-events`.

    `prompt_id`, `partition` and `offset` are those of the newest member of the changed cluster at detection.
    `template` is present whenever the event made a new version. `details` holds what the type adds
    (slot names, drift statistics, ids of merged or split parts).
    """

    event_id: str
    type: EvolutionType
    tenant: str
    cluster_id: str
    family_id: str | None = None
    template_id: str | None = None
    prompt_id: str
    previous_version: str | None = None
    new_version: str | None = None
    reason: str
    diff: str = ""
    detected_by: str  # algorithm and its version
    occurred_at_ms: int
    partition: int
    offset: int
    template: TemplateVersion | None = None
    details: dict[str, Any] = {}
