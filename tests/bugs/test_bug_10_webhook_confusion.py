"""Bug 10: webhook confusion: a body that names a server's file, and a route matched without its secret part.

Seen: n8n CVE-2026-21858 (a JSON body taken for an upload that was parsed already: the file it named was read) and
CVE-2026-110852. Here a body is read as what the endpoint declares or not at all, and a name is the whole of it.

Mutant: the check of the content type dropped from `_webhook` (gateway/ingest/webhooks.py); tried 2026-11-21: red.
Mutant: `self._decoy` for an unknown name is the first hook whose name begins with it (gateway/ingest/webhooks.py);
tried 2026-11-21: red.
Mutant: an unknown name is answered with `refuse("not-found", ...)` (gateway/ingest/webhooks.py); tried 2026-11-21: red.
Mutant: `parse_json` (gateway/http/body.py) reads the file that a body of `"file://..."` names; tried 2026-11-21: red.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..acceptance.stand_in import StandInEngine
from .scene import BODY, Opened, as_json, client, engine, problem_of, signed

__all__ = ["client", "engine"]
pytestmark = pytest.mark.timeout(60)
CANARY = "canary-of-the-server"
MULTIPART = "multipart/form-data; boundary=b"
FORM = "application/x-www-form-urlencoded"
_opened: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open":
        _opened.append(str(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def opened_files() -> Generator[list[str]]:
    """The files that this process opens in the block, whatever opens them."""
    _opened.clear()
    _watching.append(True)
    try:
        yield _opened
    finally:
        _watching.clear()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file of the server, which no answer and no event may hold anything of."""
    path = tmp_path / "database.key"
    path.write_text(CANARY)
    return path


def naming(path: Path) -> dict[str, tuple[str, bytes]]:
    """Bodies that name a file, each with the content type that it says it is."""
    upload = {"filepath": str(path), "originalFilename": "x", "mimetype": "text/plain", "size": 1}
    files = as_json({"number": 7, "files": {"data": upload}, "body": {}})
    part = f'--b\r\ncontent-disposition: form-data; name="number"; filename="{path}"\r\n\r\n7\r\n--b--\r\n'.encode()
    plain = {
        "an upload, as JSON": files,
        "a file in a field": as_json({"number": 7, "note": f"file://{path}"}),
        "an @file": as_json({"number": 7, "note": f"@{path}"}),
        "a file for a number": as_json({"number": f"file://{path}"}),
        "a file alone": as_json(f"file://{path}"),
        "an @file alone": as_json(f"@{path}"),
        "a reference": as_json({"$ref": f"file://{path}", "number": 7}),
    }
    return {
        **{name: ("application/json", body) for name, body in plain.items()},
        "an upload that says multipart": (MULTIPART, files),
        "a true multipart": (MULTIPART, part),
        "a form": (FORM, f"number=7&note=@{path}".encode()),
        "XML with an entity": (
            "application/xml",
            f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{path}">]><a>&x;</a>'.encode(),
        ),
        "JSON that says text": ("text/plain", files),
        "no type at all": ("", files),
        "two types in one": (f"application/json, {MULTIPART}", files),
    }


NAMES = list(naming(Path("x")))


@pytest.mark.parametrize("name", NAMES)
async def test_a_body_that_names_a_file_of_the_server_is_data_or_refused_and_nothing_is_read(
    client: httpx.AsyncClient, engine: StandInEngine, secret_file: Path, name: str
) -> None:
    content_type, body = naming(secret_file)[name]
    with opened_files() as opened:
        known = await client.post("/hooks/github", content=body, headers=signed(body, "d-1", content_type))
        event = await client.post("/events", content=body, headers={"content-type": content_type})
        wrapped = {
            "type": "opened",
            "data": {"number": 7, "note": f"file://{secret_file}"},
            "source": f"@{secret_file}",
        }
        as_event = await client.post("/events", json=wrapped)
    assert str(secret_file) not in opened
    assert as_event.status_code == 202
    if content_type == "application/json":
        assert (
            known.status_code == 202 if "in a field" in name or name == "an @file" else known.status_code in (422, 500)
        )
        assert event.status_code == 422
    else:
        assert (problem_of(known), problem_of(event)) == ((415, "content-type"), (415, "content-type"))
    assert all(CANARY not in answer.text for answer in (known, event, as_event))
    assert all(isinstance(made, Opened) and CANARY not in made.note for _, made, _ in engine.accepted)


@pytest.mark.parametrize("name", NAMES)
async def test_without_the_secret_every_such_body_gets_the_answer_of_an_endpoint_that_is_not_there(
    client: httpx.AsyncClient, engine: StandInEngine, secret_file: Path, name: str
) -> None:
    content_type, body = naming(secret_file)[name]
    headers = {"content-type": content_type}
    known = await client.post("/hooks/github", content=body, headers=headers)
    unknown = await client.post("/hooks/nobody", content=body, headers=headers)
    assert problem_of(known) == (401, "unauthorized")
    assert (known.status_code, known.content, known.headers) == (unknown.status_code, unknown.content, unknown.headers)
    assert engine.accepted == []


@pytest.mark.parametrize("name", ["", "g", "git", "githubb", "github/", "github/x", "x/github", "*", "%", "{endpoint}"])
@pytest.mark.parametrize("content_type", ["application/json", MULTIPART])
async def test_a_part_of_a_name_is_no_endpoint_even_under_a_genuine_signature(
    client: httpx.AsyncClient, engine: StandInEngine, name: str, content_type: str
) -> None:
    url = httpx.URL("http://127.0.0.1").copy_with(path=f"/hooks/{name}")
    found = await client.post(url, content=BODY, headers=signed(content_type=content_type))
    nowhere = await client.post("/hooks/nobody", content=BODY, headers={"content-type": content_type})
    assert (found.status_code, found.content, found.headers) == (401, nowhere.content, nowhere.headers)
    assert engine.accepted == []
