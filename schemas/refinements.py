"""What a model made of a template version: the records of `refinements`.

A refinement stands beside the offline names and never replaces them: slots keep the names that prompts are
filled by, and a reader who wants no model ignores the topic.
"""

from __future__ import annotations

from schemas.prompts import Model


class SlotRefinement(Model):
    """The better name of a slot, and why the model thinks so."""

    name: str
    reason: str = ""


class Refinement(Model):
    """A record of `refinements`; the one of a cluster that counts is the newest.

    `slots` maps the slot's name in the template to what the model calls it. `family_name` is empty where the
    cluster is of no family, or the model had none to offer. `refinement_id` follows from the event, the model
    and the prompt version, so a repeat is the same record.
    """

    refinement_id: str
    event_id: str  # of the evolution event that made the version
    tenant: str
    cluster_id: str
    template_id: str
    version: str
    family_id: str | None = None
    name: str
    description: str
    family_name: str = ""
    family_description: str = ""
    slots: dict[str, SlotRefinement] = {}
    model: str
    prompt_version: str  # of the instructions the model was given
    occurred_at_ms: int  # event time of the evolution event
