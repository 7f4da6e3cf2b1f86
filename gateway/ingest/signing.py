"""Signatures of webhooks (the face is `ensue.hooks`): a scheme is a row of data, and one function runs every row.

1. What is signed is the raw body, before anything parses it. Comparison takes the same time wherever the bytes differ.
2. A secret is named, never written: the environment is read once, when the server starts, and an empty or missing
   one stops the start. All secrets of an endpoint are active, so that one can be replaced without a gap.
3. Missing, doubled, non-ASCII or malformed headers, a wrong or stale signature: `SignatureInvalid`, whatever it was,
   after the same work. There is no default secret, and no "verify if a secret is set".
4. Where the sender's id is not under the signature, `id_is_signed` is false: the id alone identifies nothing.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest, digest
from typing import NamedTuple

from ...events.errors import SecretMissing, SignatureInvalid
from ...events.model.webhook import Verifier
from ..settings import DEFAULT_BODY_LIMIT_BYTES

__all__ = ["REPLAY_WINDOW_SECONDS", "GitHub", "Insecure", "StandardWebhooks"]

GITHUB_BODY_LIMIT_BYTES = 25 * 1000 * 1000
REPLAY_WINDOW_SECONDS = 300

Headers = Mapping[str, list[str]]
_LONGEST_TIMESTAMP = 12
_REFUSED = "The signature is missing or not valid."


class Claim(NamedTuple):
    """What a delivery says of itself: signatures (one has to hold), what is signed before the body, id, time."""

    signatures: tuple[bytes, ...] = ()
    prefix: bytes = b""
    sender_id: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Scheme:
    """A row: how a scheme reads its headers, its secret and its MAC. A new scheme is a new row."""

    name: str
    read: Callable[[Headers], Claim | None]
    encode: Callable[[bytes], bytes]
    key: Callable[[str], bytes]
    id_is_signed: bool
    is_timed: bool
    body_limit_bytes: int = DEFAULT_BODY_LIMIT_BYTES


class _Signed:
    """A verifier made of a scheme and the names of its secrets."""

    def __init__(self, scheme: Scheme, secret_env: str | Sequence[str]) -> None:
        self._scheme = scheme
        self._names = (secret_env,) if isinstance(secret_env, str) else tuple(secret_env)
        self._keys: tuple[bytes, ...] = ()
        if not self._names or not all(self._names):
            raise SecretMissing(f"hooks.{type(self).__name__}(secret_env=...) names no environment variable: name one.")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret_env={list(self._names)!r})"

    @property
    def scheme(self) -> str:
        return self._scheme.name

    @property
    def body_limit_bytes(self) -> int:
        return self._scheme.body_limit_bytes

    @property
    def id_is_signed(self) -> bool:
        return self._scheme.id_is_signed

    def load(self, environment: Mapping[str, str]) -> None:
        """Read the secrets; `SecretMissing` where one is not there or has not the scheme's form."""
        self._keys = tuple(self._key(name, environment.get(name, "")) for name in self._names)

    def verify(self, headers: Headers, body: bytes, now_seconds: float) -> str | None:
        if not self._keys:
            self.load(os.environ)
        scheme = self._scheme
        claim = scheme.read(headers)
        genuine = _matches(scheme, self._keys, claim or Claim(), body)
        if claim is None or not genuine or (scheme.is_timed and not _is_fresh(claim.timestamp, now_seconds)):
            raise SignatureInvalid(_REFUSED)
        return claim.sender_id

    def _key(self, name: str, secret: str) -> bytes:
        if not secret.strip():
            msg = f"The environment variable {name} is not set or empty, and it names the secret of a webhook"
            raise SecretMissing(f"{msg} ({self.scheme}): set it, then start again.")
        try:
            key = self._scheme.key(secret)
        except ValueError:
            key = b""
        if not key:
            msg = f"The environment variable {name} holds no secret of {self.scheme}"
            raise SecretMissing(f"{msg}: copy it as the sender shows it (Standard Webhooks: whsec_ and base64).")
        return key


class GitHub(_Signed):
    """GitHub: HMAC-SHA256 of the body, in `X-Hub-Signature-256`. The delivery id is not signed."""

    def __init__(self, *, secret_env: str | Sequence[str]) -> None:
        super().__init__(_GITHUB, secret_env)


class StandardWebhooks(_Signed):
    """Standard Webhooks: HMAC-SHA256 of id, time and body. `headers="svix"` for senders with Svix's older names."""

    def __init__(self, *, secret_env: str | Sequence[str], headers: str = "webhook") -> None:
        super().__init__(_standard(headers), secret_env)


class Insecure:
    """No check at all: whoever reaches the endpoint is believed. Loopback only, unless forced."""

    scheme = "insecure"
    body_limit_bytes = DEFAULT_BODY_LIMIT_BYTES
    id_is_signed = False

    def __init__(self, *, force: bool = False) -> None:
        self.force = force

    def __repr__(self) -> str:
        return f"Insecure(force={self.force})"

    def verify(self, headers: Headers, body: bytes, now_seconds: float) -> str | None:  # noqa: ARG002 - the protocol's
        """Believe it."""
        return None


def load_secrets(verifiers: Sequence[Verifier], environment: Mapping[str, str]) -> None:
    """Read every secret now; the first that is missing stops the start."""
    for verifier in verifiers:
        if isinstance(verifier, _Signed):
            verifier.load(environment)


def id_is_signed(verifier: Verifier) -> bool:
    """Whether an id that the verifier returns is under the signature; a verifier that does not say is not believed."""
    return bool(getattr(verifier, "id_is_signed", False))


def _matches(scheme: Scheme, keys: tuple[bytes, ...], claim: Claim, body: bytes) -> bool:
    """Whether one signature is that of one secret. Every pair is compared, and a MAC is made even for no signature."""
    found = False
    signed = claim.prefix + body if claim.prefix else body
    for key in keys:
        expected = scheme.encode(digest(key, signed, "sha256"))
        for signature in claim.signatures:
            found |= compare_digest(expected, signature)
    return found


def _is_fresh(timestamp: str | None, now_seconds: float) -> bool:
    if timestamp is None or not timestamp.isdigit() or len(timestamp) > _LONGEST_TIMESTAMP:
        return False
    return abs(now_seconds - int(timestamp)) <= REPLAY_WINDOW_SECONDS


def _only(headers: Headers, name: str) -> str | None:
    """The value of a header that is there once and in ASCII."""
    values = headers.get(name)
    if values is None or len(values) != 1 or not values[0].isascii():
        return None
    return values[0]


def _hex(mac: bytes) -> bytes:
    return mac.hex().encode()


def _read_github(headers: Headers) -> Claim | None:
    signature = _only(headers, "x-hub-signature-256")
    if signature is None or not signature.startswith("sha256="):
        return None
    sender_id = _only(headers, "x-github-delivery")
    if sender_id is None and "x-github-delivery" in headers:
        return None
    return Claim((signature[7:].encode(),), sender_id=sender_id)


def _read_standard(prefix: str) -> Callable[[Headers], Claim | None]:
    id_name, time_name, signature_name = f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature"

    def read(headers: Headers) -> Claim | None:
        sender_id, timestamp = _only(headers, id_name), _only(headers, time_name)
        listed = _only(headers, signature_name)
        if not sender_id or not timestamp or not listed:
            return None
        signatures = tuple(part[3:].encode() for part in listed.split(" ") if part.startswith("v1,"))
        return Claim(signatures, f"{sender_id}.{timestamp}.".encode(), sender_id, timestamp)

    return read


def _standard_key(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_"), validate=True)


def _standard(prefix: str) -> Scheme:
    return Scheme(
        "standard-webhooks", _read_standard(prefix), b64encode, _standard_key, id_is_signed=True, is_timed=True
    )


_GITHUB = Scheme(
    "github",
    _read_github,
    _hex,
    str.encode,
    id_is_signed=False,
    is_timed=False,
    body_limit_bytes=GITHUB_BODY_LIMIT_BYTES,
)
