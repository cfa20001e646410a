"""Flatten the messages of a chat to one text, and take it apart again.

Each message is a marker line and its content as it is; messages follow each other line by line:

    <|system|>
    You are a helpful assistant.
    <|user|>
    Summarise this in {{n}} words.

Rules
  * A marker is a whole line `<|role|>`. A role is 1 to 50 letters, digits, `_`, `-` or `.`.
  * A line of content that is a marker itself, or one behind backslashes, gets one backslash more in front;
    `messages_of` takes it away. So every text below a marker is unambiguous and nothing is lost.
  * Nothing is trimmed: leading, trailing and empty lines, carriage returns and other separators stay.

Intuition: e-mail, which puts one more dot before a line that is only a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Message = tuple[str, str]  # role, content

ROLE = re.compile(r"[A-Za-z0-9_.-]{1,50}")
MARKER = re.compile(r"<\|([A-Za-z0-9_.-]{1,50})\|>")
LOOKS_LIKE_MARKER = re.compile(r"^(\\*<\|[A-Za-z0-9_.-]{1,50}\|>)$", re.MULTILINE)
STUFFED_MARKER = re.compile(r"^\\(\\*<\|[A-Za-z0-9_.-]{1,50}\|>)$", re.MULTILINE)


def flatten(messages: Iterable[Message]) -> str:
    """Return the canonical text of a chat. Raises ValueError for a role that cannot be a marker."""
    parts = []
    for role, content in messages:
        if not ROLE.fullmatch(role):
            raise ValueError("a role is 1 to 50 letters, digits, '_', '-' or '.'")
        parts.append(f"<|{role}|>\n{LOOKS_LIKE_MARKER.sub(_stuffed, content)}")
    return "\n".join(parts)


def messages_of(text: str) -> list[Message] | None:
    """Return the messages of a flattened chat, or None for a text that is none."""
    messages: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if marker := MARKER.fullmatch(line):
            messages.append((marker[1], []))
        elif not messages:
            return None
        else:
            messages[-1][1].append(line)
    if not all(lines for _, lines in messages):
        return None  # a marker without a content line is never written by `flatten`
    return [(role, STUFFED_MARKER.sub(r"\1", "\n".join(lines))) for role, lines in messages]


def _stuffed(match: re.Match[str]) -> str:
    return "\\" + match[1]
