"""Attaching to a Ray of another program: it is left as it was, and a failure is reported in two lines."""

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.cluster.ray import session
from ensue.events.errors import RayUnavailable

from ..child_process import kill, spawn
from .sessions import CLEAN, eventually, run, two_lines

HEAD = "127.0.0.1:6390"
TOKEN, WRONG_TOKEN = "b" * 64, "c" * 64

ATTACHED = """
import ensue.cluster.ray.attach
address = sys.argv[1]
started = session.start(address)
handles, pids = workers(1)
facts = dict(embedded=started.embedded, address=started.address, worked=len(pids))
facts["listeners"] = session.check_listeners(started)
session.stop(started)
facts["left"] = not session.ray_module().is_initialized()
session.ray_module().__version__ = "1.0.0"
facts["version"] = refusal(address)
say(**facts)
"""

REFUSED = "say(message=refusal(sys.argv[1]))"
THE_USERS_OWN = """
import ray
ray.init(sys.argv[1], logging_level="ERROR")
started = session.start()
worked = len(workers(1)[1])
session.stop(started)
say(embedded=started.embedded, owned=started.owned, worked=worked, still_connected=ray.is_initialized())
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A head on loopback, with token authentication; yields the environment of those who may attach."""
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as folder:
        token = Path(folder, "token")
        token.write_text(TOKEN)
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        log = Path(folder, "log")
        head = _head(folder, auth, log)
        try:
            assert eventually(lambda: "Ray runtime started" in log.read_text(), deadline_seconds=40), log.read_text()
            yield auth
        finally:
            head.terminate()
            try:
                head.wait(30)
            finally:
                kill(head)


def _head(folder: str, auth: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("ray"))
    options = "--head --block --port 6390 --include-dashboard false --num-cpus 1 --object-store-memory 80000000"
    with log.open("wb") as output:
        return spawn(
            [program, "start", *options.split(), "--node-ip-address", "127.0.0.1", "--temp-dir", f"{folder}/r"],
            env=CLEAN | auth | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=output,
            stderr=output,
        )


def test_attaching_works_and_stop_leaves_the_cluster_alone(cluster: dict[str, str]) -> None:
    seen = run(ATTACHED, HEAD, environment=cluster)
    assert (seen["embedded"], seen["address"], seen["worked"]) == (False, HEAD, 1)
    assert seen["left"]
    assert seen["listeners"] == []


def test_another_version_of_ray_is_refused_in_two_lines(cluster: dict[str, str]) -> None:
    message = run(ATTACHED, HEAD, environment=cluster)["version"]
    assert two_lines(message)
    assert "this process has ray 1.0.0" in message


def test_a_wrong_token_is_refused_in_two_lines(cluster: dict[str, str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(WRONG_TOKEN)
    wrong = cluster | {"RAY_AUTH_TOKEN_PATH": str(token)}
    message = run(REFUSED, HEAD, environment=wrong, timeout_seconds=15)["message"]
    assert two_lines(message)
    assert "refuses our token" in message


@pytest.mark.usefixtures("cluster")
def test_no_token_where_one_is_asked_for_is_refused_in_two_lines() -> None:
    message = run(REFUSED, HEAD, environment={"RAY_AUTH_MODE": "disabled"}, timeout_seconds=15)["message"]
    assert two_lines(message)
    assert "asks for one" in message


def test_a_ray_that_the_user_initialised_is_used_and_never_shut_down(cluster: dict[str, str]) -> None:
    seen = run(THE_USERS_OWN, HEAD, environment=cluster | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
    assert seen == {"embedded": False, "owned": False, "worked": 1, "still_connected": True}


def test_where_nothing_listens_two_lines_say_so_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RayUnavailable, match=f"^No Ray answers at {address}") as caught:
            session.start(address)
    assert two_lines(str(caught.value))


def test_a_port_of_another_program_is_told_from_a_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=_answer_like_redis, args=(server,), daemon=True).start()
        with pytest.raises(RayUnavailable, match=f"^The server at {address} is not Ray") as caught:
            session.start(address)
    assert two_lines(str(caught.value))


def _answer_like_redis(server: socket.socket) -> None:
    with server.accept()[0] as connection:
        connection.recv(64)
        connection.sendall(b"-ERR unknown command\r\n")


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:0", "host:99999", ":6379", "ray://127.0.0.1:10001"])
def test_an_address_that_is_none_is_refused_in_two_lines(address: str) -> None:
    with pytest.raises(RayUnavailable) as caught:
        session.start(address)
    assert two_lines(str(caught.value))
