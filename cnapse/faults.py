"""What buckets, web servers and the way to them can do wrong: told apart, and in one line each.

Errors of boto, Google's client, requests and cloud-files are known by the answer they carry and by
the names of their classes, so that none of these libraries is imported to tell them apart.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from cnapse.errors import CnapseError, ConfigError, StorageError, StorageUnavailableError

__all__ = [
    "OWN_ENDPOINT",
    "arrived_damaged",
    "is_of_a_client",
    "is_transient",
    "remote_error",
    "remote_errors",
    "retry_seconds",
]

OWN_ENDPOINT = re.compile(r"^s3://(https?://[^/]+)/(.+)$")
"""A path that names its endpoint: ``s3://https://HOST/BUCKET/FOLDER``."""

_RETRY_SECONDS = 30.0
_MESSAGE_LENGTH = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_AGAIN = "then run the same command again"

# Libraries that talk over the network.
_CLIENTS = frozenset(
    {"boto3", "botocore", "cloudfiles", "google", "http", "requests", "socket", "ssl", "urllib3"}
)
# Answers that another try may change, besides all of 500 and above.
_TRANSIENT_STATUS = frozenset({408, 409, 423, 425, 429})
_TRANSIENT_CODES = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)
_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RefreshError",
        "RequestExpired",
        "TokenRefreshRequired",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_NO_CREDENTIALS = frozenset(
    {
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
    }
)
_UNKNOWN_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "AuthorizationError",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "Unauthorized",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden"})
_WRONG_CERTIFICATE = frozenset({"CertificateError", "SSLError"})
_OTHERS = frozenset(
    {
        "CompressionError",
        "FileNotFoundError",
        "InvalidSchema",
        "InvalidURL",
        "PermissionError",
        "UnsupportedProtocolError",
    }
)
# What no other try changes.
_PERMANENT = (
    _EXPIRED | _NO_CREDENTIALS | _UNKNOWN_CREDENTIALS | _DENIED | _WRONG_CERTIFICATE | _OTHERS
)
_WAYS_OUT = (
    ({"NoSuchBucket"}, "there is no bucket {bucket}{endpoint}: check its name, or make it"),
    (_EXPIRED, "your credentials have expired: get new ones, {again}"),
    (
        _NO_CREDENTIALS,
        (
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3, sqs) or "
            "GOOGLE_APPLICATION_CREDENTIALS (gs); read a public bucket by its https:// address"
        ),
    ),
    (
        _UNKNOWN_CREDENTIALS,
        "the server does not know your credentials ({said}): correct them, {again}",
    ),
    (
        _DENIED,
        "access denied ({said}): ask for the right to do this, or use other credentials, {again}",
    ),
    (_WRONG_CERTIFICATE, "its certificate is not trusted ({said}): set AWS_CA_BUNDLE"),
    # An answer to HEAD has no body to say why; most often it is this.
    (
        {"400"},
        (
            "the server refused ({said}): your credentials may have expired, or AWS_DEFAULT_REGION "
            "is another than the bucket's: mend that, {again}"
        ),
    ),
)


def retry_seconds() -> float:
    """How long a fault of a store is tried again: ``CNAPSE_RETRY_SECONDS``, by default 30.

    Raises
    ------
    ConfigError
        If it is no number.
    """
    text = os.environ.get("CNAPSE_RETRY_SECONDS", "")
    try:
        return float(text) if text else _RETRY_SECONDS
    except ValueError as error:
        raise ConfigError(
            f"CNAPSE_RETRY_SECONDS={text!r} is no number: give seconds, as 30"
        ) from error


def arrived_damaged(error: BaseException) -> bool:
    """Whether what came is not what the store has: a checksum, or a cut compressed body."""
    return not _names(error).isdisjoint({"IntegrityError", "DecompressionError"})


def is_transient(error: BaseException) -> bool:
    """Whether another try may help: a busy or failing server, a lost connection; not a refusal."""
    if isinstance(error, CnapseError):
        return isinstance(error, StorageUnavailableError)
    status, code = _answer(error)
    if status is not None:
        return status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
    return {*_names(error), code}.isdisjoint(_PERMANENT) and is_of_a_client(error)


@contextlib.contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Turn what clients of buckets raise into one line with the way out; the rest stays."""
    try:
        yield
    except Exception as error:
        # Each client has errors of its own.
        if path.startswith("file://") or not is_of_a_client(error):
            raise
        raise remote_error(error, path) from error


def remote_error(error: Exception, path: str, *, retried: bool = True) -> StorageError:
    """What a bucket, a queue, a web server or the way to them said, in one line with the way out.

    Parameters
    ----------
    error : Exception
        Of cloud-files or one of the libraries below it.
    path : str
        What was read or written, or asked.
    retried : bool
        Whether it was tried again for `retry_seconds`.
    """
    said = " ".join(_COLOUR.sub("", str(error)).split())[:_MESSAGE_LENGTH]
    said = said or type(error).__name__
    if arrived_damaged(error):
        return StorageUnavailableError(
            f"{path} arrived damaged each time: {said}; check the network, {_AGAIN}; if it stays "
            "so, the file in the store is damaged"
        )
    if is_transient(error):
        return StorageUnavailableError(
            f"{path} cannot be reached: {said}{_tried(retried)}: check the "
            f"network and the address{_endpoint()}, {_AGAIN}"
        )
    status, code = _answer(error)
    # With a code of its own a 400 says what was wrong.
    names = {*_names(error), code, "" if code and status == 400 else str(status)}
    if status == 404 and path.startswith("gs://"):
        names.add("NoSuchBucket")
    for known, way_out in _WAYS_OUT:
        if not names.isdisjoint(known):
            told = way_out.format(
                bucket=_bucket(path), endpoint=_endpoint(), said=said, again=_AGAIN
            )
            return StorageError(f"{path}: {told}")
    return StorageError(
        f"{path}: the server refused ({said}): check the path and your credentials, {_AGAIN}"
    )


def _tried(retried: bool) -> str:
    return f"; tried for {retry_seconds():g} s" if retried else ""


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Status and code of a server's answer, of whichever client; None without an answer."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return (int(status) if status else None), str(response.get("Error", {}).get("Code", ""))
    # requests, then Google's.
    number = getattr(response, "status_code", None) or getattr(error, "code", None)
    return (int(number), "") if isinstance(number, int) else (None, "")


def is_of_a_client(error: BaseException) -> bool:
    """Whether an error is of the network or of a library that talks over it."""
    if isinstance(error, CnapseError):
        return False
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not roots.isdisjoint(_CLIENTS)


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _bucket(path: str) -> str:
    own = OWN_ENDPOINT.match(path)
    text = own.group(2) if own else path.partition("://")[2]
    return text.partition("/")[0]


def _endpoint() -> str:
    """Where s3 goes, if the environment names another place than Amazon's."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return f" ({name} is {os.environ[name]})"
    return ""
