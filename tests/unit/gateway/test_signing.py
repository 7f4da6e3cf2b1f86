"""Signatures: the documented examples hold, and everything short of them is refused."""

from base64 import b64encode
from hmac import digest

import pytest

from ensue.events.errors import SecretMissing, SignatureInvalid
from ensue.gateway.ingest.signing import GitHub, Insecure, StandardWebhooks, id_is_signed, load_secrets

Headers = dict[str, list[str]]

# GitHub's documentation, "Validating webhook deliveries", "Testing the webhook payload validation".
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

# The example of the Standard Webhooks libraries and of Svix's documentation.
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_TIME = 1614265330
STANDARD_HEADERS: Headers = {
    "webhook-id": ["msg_p5jXN8AQM9LWM0D4loKWxJek"],
    "webhook-timestamp": [str(STANDARD_TIME)],
    "webhook-signature": ["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="],
}


def _github(*secrets: str) -> GitHub:
    names = [f"SECRET_{index}" for index in range(len(secrets))]
    verifier = GitHub(secret_env=names)
    verifier.load(dict(zip(names, secrets, strict=True)))
    return verifier


def _standard(*secrets: str, headers: str = "webhook") -> StandardWebhooks:
    names = [f"SECRET_{index}" for index in range(len(secrets))]
    verifier = StandardWebhooks(secret_env=names, headers=headers)
    verifier.load(dict(zip(names, secrets, strict=True)))
    return verifier


def _github_headers(**changes: list[str] | None) -> Headers:
    headers: Headers = {"x-hub-signature-256": [GITHUB_SIGNATURE], "x-github-delivery": ["72d3162e"]}
    for name, value in changes.items():
        headers.pop(name.replace("_", "-"), None)
        if value is not None:
            headers[name.replace("_", "-")] = value
    return headers


def test_githubs_documented_example_is_genuine_and_names_its_delivery() -> None:
    assert _github(GITHUB_SECRET).verify(_github_headers(), GITHUB_BODY, 0.0) == "72d3162e"


def test_a_github_delivery_without_an_id_is_genuine() -> None:
    assert _github(GITHUB_SECRET).verify(_github_headers(x_github_delivery=None), GITHUB_BODY, 0.0) is None


@pytest.mark.parametrize("secrets", [("old", GITHUB_SECRET), (GITHUB_SECRET, "new")])
def test_every_active_secret_is_tried(secrets: tuple[str, ...]) -> None:
    assert _github(*secrets).verify(_github_headers(), GITHUB_BODY, 0.0) == "72d3162e"


@pytest.mark.parametrize(
    "headers",
    [
        _github_headers(x_hub_signature_256=None),
        _github_headers(x_hub_signature_256=[]),
        _github_headers(x_hub_signature_256=[""]),
        _github_headers(x_hub_signature_256=["sha256="]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE, GITHUB_SIGNATURE]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE.removeprefix("sha256=")]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE.replace("sha256", "sha1")]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE[:-1] + "8"]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE[:-1]]),
        _github_headers(x_hub_signature_256=[GITHUB_SIGNATURE[:-1] + "\xb2"]),
        _github_headers(x_github_delivery=["a", "b"]),
        _github_headers(x_github_delivery=["caf\xe9"]),
        {"x-hub-signature": ["sha1=" + digest(GITHUB_SECRET.encode(), GITHUB_BODY, "sha1").hex()]},
    ],
)
def test_github_refuses_whatever_is_missing_doubled_or_malformed(headers: Headers) -> None:
    with pytest.raises(SignatureInvalid):
        _github(GITHUB_SECRET).verify(headers, GITHUB_BODY, 0.0)


def test_github_refuses_another_body_and_another_secret() -> None:
    with pytest.raises(SignatureInvalid):
        _github(GITHUB_SECRET).verify(_github_headers(), GITHUB_BODY + b" ", 0.0)
    with pytest.raises(SignatureInvalid):
        _github("another").verify(_github_headers(), GITHUB_BODY, 0.0)


@pytest.mark.parametrize("now", [STANDARD_TIME, STANDARD_TIME + 300, STANDARD_TIME - 300])
def test_the_example_of_standard_webhooks_is_genuine_within_300_seconds(now: int) -> None:
    sender_id = _standard(STANDARD_SECRET).verify(STANDARD_HEADERS, STANDARD_BODY, now)
    assert sender_id == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("now", [STANDARD_TIME + 301, STANDARD_TIME - 301, 0])
def test_a_stale_or_future_delivery_is_refused(now: int) -> None:
    with pytest.raises(SignatureInvalid):
        _standard(STANDARD_SECRET).verify(STANDARD_HEADERS, STANDARD_BODY, now)


def test_one_of_many_signatures_suffices_and_other_versions_are_passed_over() -> None:
    listed = f"v1a,AAAA v1,{b64encode(bytes(32)).decode()} " + STANDARD_HEADERS["webhook-signature"][0]
    headers = {**STANDARD_HEADERS, "webhook-signature": [listed]}
    assert _standard(STANDARD_SECRET).verify(headers, STANDARD_BODY, STANDARD_TIME)


def test_svix_names_are_another_row_of_the_same_scheme() -> None:
    headers = {name.replace("webhook", "svix"): values for name, values in STANDARD_HEADERS.items()}
    assert _standard(STANDARD_SECRET, headers="svix").verify(headers, STANDARD_BODY, STANDARD_TIME)
    with pytest.raises(SignatureInvalid):
        _standard(STANDARD_SECRET).verify(headers, STANDARD_BODY, STANDARD_TIME)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("values", [None, [], [""], ["\xe9"], "twice"])
def test_standard_webhooks_needs_each_header_once(name: str, values: list[str] | str | None) -> None:
    headers = dict(STANDARD_HEADERS)
    if values is None:
        del headers[name]
    else:
        headers[name] = headers[name] * 2 if values == "twice" else list(values)
    with pytest.raises(SignatureInvalid):
        _standard(STANDARD_SECRET).verify(headers, STANDARD_BODY, STANDARD_TIME)


@pytest.mark.parametrize("timestamp", ["-1", "1e9", "1614265330.5", " 1614265330", "9" * 400, "٣"])
def test_a_timestamp_is_a_number_of_seconds(timestamp: str) -> None:
    with pytest.raises(SignatureInvalid):
        _standard(STANDARD_SECRET).verify(
            {**STANDARD_HEADERS, "webhook-timestamp": [timestamp]}, STANDARD_BODY, STANDARD_TIME
        )


@pytest.mark.parametrize("listed", ["v1", "v1,", "v2,abc", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", " ", ","])
def test_a_signature_without_its_version_is_none(listed: str) -> None:
    with pytest.raises(SignatureInvalid):
        _standard(STANDARD_SECRET).verify(
            {**STANDARD_HEADERS, "webhook-signature": [listed]}, STANDARD_BODY, STANDARD_TIME
        )


@pytest.mark.parametrize("environment", [{}, {"HOOK": ""}, {"HOOK": " \n"}])
@pytest.mark.parametrize("scheme", [GitHub, StandardWebhooks])
def test_a_missing_or_empty_secret_stops_the_start_and_names_the_variable(
    scheme: type[GitHub | StandardWebhooks], environment: dict[str, str]
) -> None:
    with pytest.raises(SecretMissing, match="HOOK"):
        load_secrets([scheme(secret_env="HOOK")], environment)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_***", "not base64!"])
def test_a_secret_that_is_no_base64_stops_the_start_and_is_not_shown(secret: str) -> None:
    with pytest.raises(SecretMissing) as caught:
        load_secrets([StandardWebhooks(secret_env="HOOK")], {"HOOK": secret})
    assert "not base64!" not in str(caught.value)


def test_a_verifier_without_a_name_for_its_secret_cannot_be_declared() -> None:
    with pytest.raises(SecretMissing):
        GitHub(secret_env=[])
    with pytest.raises(SecretMissing):
        GitHub(secret_env="")


def test_no_verifier_shows_its_secret() -> None:
    verifier = _github("canary-3141")
    assert "canary" not in repr(verifier)
    assert "canary" not in str(vars(GitHub(secret_env="X")))


def test_only_standard_webhooks_signs_its_id() -> None:
    assert id_is_signed(_standard(STANDARD_SECRET))
    assert not id_is_signed(_github("s"))
    assert not id_is_signed(Insecure())


def test_insecure_believes_anybody_and_says_so() -> None:
    assert Insecure().verify({}, b"", 0.0) is None
    assert Insecure().scheme == "insecure"
