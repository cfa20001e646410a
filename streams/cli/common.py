"""What every command does first: read the settings and find the services."""

from __future__ import annotations

from streams.settings import Settings, load


def located_settings(*, kafka: bool = True, postgres: bool = True) -> Settings:
    """Return the settings with the addresses of the embedded services filled in where none are given.

    A command asks only for the services it uses, so that it runs while the others are down.
    """
    from infra.embedded.addresses import resolve

    return resolve(load(), kafka=kafka, postgres=postgres)
