"""What every command does first: read the settings and find the services."""

from __future__ import annotations

from streams.engine.settings import Settings, load


def located_settings() -> Settings:
    """Return the settings with the addresses of the embedded services filled in where none are given."""
    from infra.embedded.addresses import resolve

    return resolve(load())
