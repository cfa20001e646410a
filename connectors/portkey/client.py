"""The one door to a Portkey gateway: the SDK's client with our limits, and its errors as ours.

    ServiceUnavailable   no answer in time, no connection, 408, 409, 5xx
    ServiceRateLimited   429, with what the gateway says about waiting
    ServiceRefused       any other 4xx. A 403 may be caused by a prompt's content (the gateway's firewall
                         reads it), so asking again never helps; whether the prompt or the key is to
                         blame is decided by whoever holds the prompts (streams/engine/refusals.py)
    ServiceMalformed     2xx, but not the JSON that was promised

Rules: no retries in here, because the engine holds the partition and backs off, and two loops would
multiply; one deadline over a whole call, because a timeout of httpx begins anew with every byte;
at most `concurrency_max` calls at once; answers and prompts never stand in an error's text.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import httpx

from schemas.errors import ServiceMalformed, ServiceRateLimited, ServiceRefused, ServiceUnavailable, SettingsInvalid

Answer = TypeVar("Answer")

HOSTED_URL = "https://api.portkey.ai/v1"
TIMEOUT_S = 20.0
# A gateway answers in a fraction of a second; four calls at once keep a unit of 256 prompts busy
# without tripping the rate limits of small accounts.
CONCURRENCY_MAX = 4

RETRYABLE_STATUSES = frozenset({408, 409})


class PortkeyClient:
    """Calls the gateway at `base_url` (empty = the hosted one) and translates what goes wrong."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str = "",
        virtual_key: str = "",
        timeout_s: float = TIMEOUT_S,
        concurrency_max: int = CONCURRENCY_MAX,
    ) -> None:
        try:
            import portkey_ai  # noqa: PLC0415  an extra, and two seconds to load
        except ImportError:
            raise SettingsInvalid(
                "setting up a Portkey adapter: the package portkey-ai is not installed",
                hint="pip install 'promptloom[portkey]', or choose the offline embedder and moderator",
            ) from None
        self._errors = portkey_ai.openai
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(concurrency_max)
        self._running: set[asyncio.Task[Any]] = set()
        # A call is over before its deadline if it cannot connect: see `_call`. The slots bound what is asked at once.
        http_client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=timeout_s / 2),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency_max),
            follow_redirects=False,
        )
        try:
            self._sdk = portkey_ai.AsyncPortkey(
                api_key=api_key,
                base_url=base_url or HOSTED_URL,
                virtual_key=virtual_key or None,
                http_client=http_client,
            )
        except ValueError:
            raise SettingsInvalid(
                "setting up a Portkey adapter: the hosted gateway wants an API key",
                hint="set portkey.api_key (PROMPTLOOM_PORTKEY__API_KEY), or portkey.base_url to a gateway of your own",
            ) from None
        # The SDK fixes one retry of its own, which sleeps as long as the gateway asks for.
        self._sdk.openai_client.max_retries = 0

    async def embeddings(self, **request: Any) -> Any:
        """Return the SDK's answer to `embeddings.create`."""
        return await self._call("asking the gateway for embeddings", self._sdk.embeddings.create, request)

    async def moderations(self, **request: Any) -> Any:
        """Return the SDK's answer to `moderations.create`."""
        return await self._call("asking the gateway for moderation", self._sdk.moderations.create, request)

    async def chat(self, **request: Any) -> Any:
        """Return the SDK's answer to `chat.completions.create`."""
        return await self._call("asking the gateway for a completion", self._sdk.chat.completions.create, request)

    async def _call(self, doing: str, method: Callable[..., Awaitable[Any]], request: dict[str, Any]) -> Any:
        """Await an answer. Whoever gives up waiting does not stop the request, which ends by its own deadline.

        A request that is cancelled while it connects keeps its place in the pool of connections for ever, and in time
        there would be none left (httpcore 1.0.9, its issue 1093). A call that is given up while it still waits for its
        slot asks nothing: hundreds of them would stand before the next attempt.
        """
        await self._slots.acquire()
        task = asyncio.create_task(self._ask(doing, method, request))
        self._running.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._slots.release()
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it

    async def _ask(self, doing: str, method: Callable[..., Awaitable[Any]], request: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await method(**request)
        except (TimeoutError, self._errors.APITimeoutError):
            raise ServiceUnavailable(
                f"{doing}: no answer within {self._timeout_s:g} s", hint="portkey.timeout_s sets the limit"
            ) from None
        except self._errors.APIStatusError as error:
            raise _status_error(doing, error.status_code, error.response.headers) from None
        except (self._errors.APIConnectionError, httpx.TransportError) as error:
            raise ServiceUnavailable(
                f"{doing}: no connection ({type(error).__name__})", hint="is portkey.base_url right?"
            ) from None
        # The SDK parses the body itself: broken JSON is a ValueError, JSON of another shape a TypeError.
        except (ValueError, TypeError, self._errors.APIError) as error:
            raise ServiceMalformed(f"{doing}: the answer cannot be read ({type(error).__name__})") from None


async def in_parallel(calls: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Await all calls; the first error cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _status_error(doing: str, status: int, headers: httpx.Headers) -> Exception:
    answered = f"{doing}: the gateway answered {status}"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return ServiceRateLimited(
            answered, retry_after_s=_seconds(headers.get("retry-after", "")), hint="lower the rate, or raise the limit"
        )
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in RETRYABLE_STATUSES:
        return ServiceUnavailable(answered)
    if status == httpx.codes.UNAUTHORIZED:
        return ServiceRefused(answered, hint="check portkey.api_key and portkey.virtual_key")
    return ServiceRefused(answered, hint="the key may lack a right, the model may be unknown, or the text is declined")


def _seconds(header: str) -> float | None:
    """Return `Retry-After` in seconds; None where it is absent or a date, which would need a clock."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
