"""Buckets and web servers: one way to reach them, and one way to try again.

CloudFiles and CloudVolume do the work. Left alone, cloud-files tries everything seven times, a
refused permission like a lost connection, and waits for a dead address for half an hour. `prepare`
sets its own retries (they are tenacity's) so that only what may pass is tried again, for at most
``CNAPSE_RETRY_SECONDS``.

A store that speaks S3 and is not Amazon's is named in the path, as cloud-files does,
``s3://https://HOST/BUCKET/FOLDER``, or by the environment variable ``AWS_ENDPOINT_URL_S3``.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cnapse.faults import OWN_ENDPOINT, arrived_damaged, is_transient, retry_seconds

if TYPE_CHECKING:
    import tenacity
    from cloudfiles import CloudFiles
    from cloudvolume import CloudVolume

__all__ = [
    "cloud_files",
    "cloud_volume",
    "prepare",
    "reachable",
    "tried_again",
    "while_transient",
]

_LONGEST_WAIT = 8.0
_DAMAGED_TRIES = 5
# Seconds until a web server must have answered, and between two pieces of what it sends.
_HTTP_TIMEOUT = (10.0, 60.0)
_HTTP_CONNECTIONS = 32


def reachable(path: str) -> str:
    """The path as CloudFiles and CloudVolume both know it.

    ``s3://https://HOST/BUCKET/FOLDER`` becomes ``ALIAS://BUCKET/FOLDER``, with the alias (the
    host's name, ``_`` for what is neither letter nor digit) made known to cloud-files; other paths
    stay as they are.
    """
    found = OWN_ENDPOINT.match(path)
    if found is None:
        return path
    endpoint, rest = found.groups()
    from cloudfiles import paths

    alias = re.sub(r"\W", "_", urlsplit(endpoint).netloc)
    if paths.ALIASES.get(alias) != f"s3://{endpoint}/":
        paths.add_alias(alias, f"s3://{endpoint}")
    return f"{alias}://{rest}"


def cloud_files(path: str) -> CloudFiles:
    """The CloudFiles of a folder."""
    from cloudfiles import CloudFiles

    prepare()
    return CloudFiles(reachable(path), progress=False)


def cloud_volume(path: str, **options: Any) -> CloudVolume:
    """The CloudVolume of a layer, without a progress bar."""
    from cloudvolume import CloudVolume

    prepare()
    return CloudVolume(reachable(path), progress=False, **options)


def while_transient() -> tenacity.Retrying:
    """What to call a function with, so that what may pass is tried again for some time."""
    import tenacity

    return tenacity.Retrying(
        reraise=True,
        retry=tenacity.retry_if_exception(is_transient),
        stop=lambda state: (state.seconds_since_start or 0.0) > retry_seconds(),
        wait=tenacity.wait_random_exponential(0.2, _LONGEST_WAIT),
    )


def tried_again() -> tenacity.Retrying:
    """What to call a function with, so that what arrives damaged is fetched again a few times.

    Lost connections and busy servers are tried again below, by `prepare`.
    """
    import tenacity

    return tenacity.Retrying(
        reraise=True,
        retry=tenacity.retry_if_exception(arrived_damaged),
        stop=tenacity.stop_after_attempt(_DAMAGED_TRIES),
        wait=tenacity.wait_random_exponential(0.1, 2),
    )


def prepare() -> None:
    """Set up cloud-files for this process: what is tried again, how long, and time limits."""
    # It reads three variables where two are enough.
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= os.environ.keys():
        os.environ.setdefault("AWS_SESSION_TOKEN", "")
    # Connections within 3 s instead of 60, three tries with backoff: the SDKs' newer defaults.
    os.environ.setdefault("AWS_DEFAULTS_MODE", "standard")
    _set_retries()


@functools.cache
def _set_retries() -> None:
    import tenacity
    from cloudfiles import connectionpools, interfaces

    policy = while_transient()
    for owner in (
        interfaces.S3Interface,
        interfaces.GoogleCloudStorageInterface,
        interfaces.HttpInterface,
        connectionpools.S3ConnectionPool,
        connectionpools.GCloudBucketPool,
    ):
        for function in vars(owner).values():
            own = getattr(function, "retry", None)
            if isinstance(own, tenacity.BaseRetrying):
                own.retry, own.stop, own.wait = policy.retry, policy.stop, policy.wait
    # Of what is decorated while it runs (lists of files).
    interfaces.retry = policy.wraps
    interfaces.HttpInterface.adaptor = _timed_adapter()


def _timed_adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Timed(HTTPAdapter):
        """Gives up on a server that does not answer; requests would wait for ever."""

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            options["timeout"] = options.get("timeout") or _HTTP_TIMEOUT
            return super().send(request, *args, **options)

    return Timed(pool_maxsize=_HTTP_CONNECTIONS)
