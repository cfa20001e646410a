"""Ids derive from inputs, so replaying a topic gives the same ids, byte for byte.

All are UUIDv5 in one namespace; the parts are joined by U+001F, which no part may hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from uuid import UUID, uuid5

NAMESPACE = UUID("8e0c7c9e-3d0f-5f1c-9b7a-5a2f6d1c4b10")
SEPARATOR = "\x1f"


def derive(*parts: object) -> str:
    """Return the UUIDv5 of the parts."""
    return str(uuid5(NAMESPACE, SEPARATOR.join(map(str, parts))))


def prompt_id_of_record(topic: str, partition: int, offset: int) -> str:
    """Id of a prompt that came without one."""
    return derive("prompt", topic, partition, offset)


def prompt_id_of_line(file_sha256: str, line: int) -> str:
    """Id that `promptloom replay` gives the prompt on a line (from 1) of a file."""
    return derive("line", file_sha256, line)


def cluster_id(tenant: str, founding_prompt_ids: Iterable[str]) -> str:
    """Id of a cluster, from the prompts that founded it (in any order)."""
    return derive("cluster", tenant, *sorted(founding_prompt_ids))


def template_id(cluster: str, version: str) -> str:
    """Id of one version of a cluster's template."""
    return derive("template", cluster, version)


def family_id(tenant: str, founding_cluster_id: str) -> str:
    """Id of a family, from the cluster that founded it."""
    return derive("family", tenant, founding_cluster_id)


def event_id(subject: str, event_type: str, new_version: str | None, prompt_id: str, others: Iterable[str] = ()) -> str:
    """Id of an evolution event; `subject` is the cluster or family it is about, `others` those that met it there."""
    return derive("event", subject, event_type, new_version or "", prompt_id, *others)


def refinement_id(event: str, model: str, prompt_version: str) -> str:
    """Id of what a model, asked in a certain way, made of the template version of an evolution event."""
    return derive("refinement", event, model, prompt_version)


def text_hash(text: str) -> str:
    """SHA-256 of a prompt's canonical text, in hex: all that is kept of a rejected one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
