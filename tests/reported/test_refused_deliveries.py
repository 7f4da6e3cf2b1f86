"""Reported: refused deliveries leave no line and no metric, and a secret with a line break refuses all of them."""

import logging
import re

import pytest

from ensue import hooks
from ensue.events.errors import SecretMissing
from ensue.gateway.ingest.refusals import QUIET_SECONDS, Refusals
from ensue.gateway.ingest.signing import load_secrets

from .door import SIGNED, post, served

KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSED = ["{}\n", "\n{}", "{}\r\n", " {}", "{}\t", '"{}"', "'{}'", "`{}`", "{}\n{}", "\ufeff{}", "{}\x00"]


async def test_each_refusal_is_counted_by_endpoint_and_reason_and_logged_without_its_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests = [
        *[post(b"/hooks/shop")] * 3,
        post(b"/hooks/nope"),
        post(b"/hooks/shop", SIGNED).replace(b"application/json", b"text/plain"),
        post(b"/events", body=b'{"type": "Canary"}'),
        post(b"/events", body=b"{"),
        post(b"/hooks/shop", SIGNED).replace(b"POST", b"PUT"),
    ]
    async with served() as door:
        for request in requests:
            await door.talk(request)
        (metrics,) = await door.talk(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
    counted = re.findall(r'ensue_deliveries_refused_total{endpoint="(.*)",reason="(.*)"} (.*)', metrics.body.decode())
    assert sorted(counted) == [
        ("events", "body-unreadable", "1.0"),
        ("events", "event-type-unknown", "1.0"),
        ("hooks/(unknown)", "unauthorized", "1.0"),
        ("hooks/shop", "content-type", "1.0"),
        ("hooks/shop", "method-not-allowed", "1.0"),
        ("hooks/shop", "unauthorized", "3.0"),
    ]
    lines = [record.getMessage() for record in caplog.records if "refused at" in record.getMessage()]
    assert lines.count("refused at hooks/shop: unauthorized (1 since the last line)") == 1
    assert len(lines) == len(counted)
    assert "Canary" not in "".join(lines)


def test_a_line_comes_at_once_and_then_rarely_with_the_number_of_refusals(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = Refusals(clock=lambda: now[0])
    caplog.set_level(logging.WARNING, "ensue.gateway")
    for second in range(25):
        now[0] = float(second)
        refusals.add("events", "overloaded")
    numbers = [re.findall(r"\((\d+) since", record.getMessage())[0] for record in caplog.records]
    assert (numbers, QUIET_SECONDS) == (["1", "10", "10"], 10)


@pytest.mark.parametrize("scheme", [hooks.GitHub, hooks.StandardWebhooks])
@pytest.mark.parametrize("form", MESSED)
def test_a_secret_with_a_line_break_or_quotes_stops_the_start_and_is_not_shown(scheme: type, form: str) -> None:
    with pytest.raises(SecretMissing, match=r"HOOK.*alone") as caught:
        load_secrets([scheme(secret_env="HOOK")], {"HOOK": form.format(KEY, KEY)})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("secret", [KEY, "it's", 'a"b', "two words", "ключ", "'"])
def test_any_other_secret_is_taken(secret: str) -> None:
    load_secrets([hooks.GitHub(secret_env="HOOK")], {"HOOK": secret})
