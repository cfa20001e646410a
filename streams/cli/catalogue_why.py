"""What `promptloom why` puts on the screen: a prompt's chain of assignments and the decision behind each link.

Two gates decide: one weighs how many of a cluster's constant words the prompt holds (structure),
the other asks for closeness to the cluster's centre where structure says too little (meaning).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from streams.cli.catalogue_views import SHORT_ID_CHARS, time_text
from streams.cli.render import printable, slot_values_text, template_text

if TYPE_CHECKING:
    from connectors.postgres.reader import Link, PromptHistory

GATES = {
    "structure": "the structure gate: the prompt shares enough of the cluster's constant words",
    "tie": "the meaning gate: two clusters explain the prompt's words alike, and this one is closer in meaning",
    "meaning": "the meaning gate: too few constant words to tell, but close enough to the cluster in meaning",
    "none": "neither gate let the prompt into a cluster",
    "moved": "no gate: clusters changed later, and the prompt moved with them",
    "duplicate": "no gate: a repeat of a known prompt id is only counted",
}


def history_view(history: PromptHistory) -> Group:
    """Return a prompt, its verdict and its chain of assignments."""
    parts: list[RenderableType] = [_heading(history)]
    if history.text is not None:
        parts.append(Padding(template_text(history.text, ()), (1, 0, 1, 2)))
    parts.extend(_link_view(link) for link in history.chain)
    if not history.chain and history.text is not None:
        parts.append(Text("no assignment yet", style="yellow"))
    return Group(*parts)


def _heading(history: PromptHistory) -> Text:
    shown = Text(f"prompt {printable(history.prompt_id)}", style="bold")
    facts = {
        "tenant": history.tenant,
        "source": history.source or "not given",
        "created": time_text(history.created_at),
        "record": f"partition {history.prompt_partition}, offset {history.prompt_offset} of the topic prompts",
        "moderation": _verdict(history),
    }
    for name, value in facts.items():
        shown.append(f"\n{name:11}", style="not bold dim").append(printable(value), style="not bold")
    return shown


def _verdict(history: PromptHistory) -> str:
    moderation: Mapping[str, Any] = json.loads(history.moderation_json)
    by = f"by {moderation.get('moderator')}, policy {moderation.get('policy_version')}"
    scores: dict[str, float] = moderation.get("scores") or {}
    highest = max(scores, key=lambda category: scores[category], default="")
    score = f"; highest score: {highest} {scores[highest]:.2f}" if highest else ""
    if history.moderation_status == "rejected":
        because = f" for {moderation['reason']}" if moderation.get("reason") else ""
        return f"rejected{because} ({by}{score}); a rejected text is not stored and goes into no cluster"
    return f"allowed ({by}{score})"


def _link_view(link: Link) -> Group:
    decision: Mapping[str, Any] = json.loads(link.decision_json)
    shown = Text(f"{link.sequence + 1}. {_what_happened(link)}", style="bold")
    if link.current:
        shown.append("  <- current", style="bold green")
    body = Text(f"because  {printable(link.reasoning)}\n" if link.reasoning else "")
    gate = str(decision.get("gate", ""))
    body.append(f"decided  by {printable(GATES.get(gate, gate))}\n")
    body.append_text(_scores(gate, decision))
    if link.cluster_id:
        body.append(f"so       similarity {link.similarity:.2f}, confidence {link.confidence:.2f}\n")
    body.append(
        f"rules    algorithm {printable(str(decision.get('algorithm')))}, "
        f"policy {printable(str(decision.get('policy_version')))}\n",
        style="dim",
    )
    return Group(shown, Padding(body.append_text(_reading(link)), (0, 0, 0, 3)))


def _what_happened(link: Link) -> str:
    here, before = _short(link.cluster_id), _short(link.previous_cluster_id)
    if here and before:
        return f"moved from cluster {before} to cluster {here}"
    if here:
        return f"joined cluster {here}"
    return f"left cluster {before} for none" if before else "stayed outside all clusters"


def _scores(gate: str, decision: Mapping[str, Any]) -> Text:
    """Return what both gates measured against the nearest two clusters."""
    shown = Text()
    nearest, second = decision.get("nearest_cluster_id"), decision.get("second_cluster_id")
    if nearest:
        shown.append(f"nearest  cluster {_short(nearest)}: {_measured(decision, 'nearest')}\n")
    if second and gate == "moved":  # the record keeps the cluster it came from here, without scores
        return shown
    if second:
        shown.append(f"second   cluster {_short(second)}: {_measured(decision, 'second')}\n")
        shown.append(f"margin   {decision.get('margin', 0.0):.0%} of structure between the two\n")
    elif nearest:
        shown.append("second   no other cluster came near\n")
    return shown


def _measured(decision: Mapping[str, Any], which: str) -> str:
    structure, meaning = decision.get(f"{which}_structure", 0.0), decision.get(f"{which}_meaning", 0.0)
    return f"structure {structure:.0%} (constants shared), meaning {meaning:.2f} (cosine to its centre)"


def _reading(link: Link) -> Text:
    """Return what the template made of the prompt."""
    if link.raw:
        return Text("kept as raw text: the template does not give it back byte for byte")
    if not link.template_version:
        return Text()
    shown = Text(f"read with template {link.template_version}\n")
    return shown.append_text(slot_values_text(json.loads(link.slots_json or "{}")))


def _short(cluster_id: str | None) -> str:
    return cluster_id[:SHORT_ID_CHARS] if cluster_id else ""
