"""Moderation providers by name.

Each factory takes plain keyword arguments and returns a `ports.Moderator`; it imports its provider when it
is called, so that an extra that is not installed is missed only by those who choose it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.moderators.offline import OfflineModerator
    from connectors.moderators.portkey import PortkeyModerator


def _offline() -> OfflineModerator:
    """Return the classifier that ships with the package."""
    from connectors.moderators.offline import OfflineModerator  # noqa: PLC0415  see above

    return OfflineModerator()


def _portkey(*, model: str, **connection: Any) -> PortkeyModerator:
    """Return a moderator behind a gateway; `connection` is what PortkeyClient takes."""
    from connectors.moderators.portkey import PortkeyModerator  # noqa: PLC0415  see above
    from connectors.portkey.client import PortkeyClient  # noqa: PLC0415

    return PortkeyModerator(PortkeyClient(**connection), model=model)


MODERATORS: dict[str, Callable[..., OfflineModerator | PortkeyModerator]] = {
    "offline": _offline,
    "portkey": _portkey,
}
