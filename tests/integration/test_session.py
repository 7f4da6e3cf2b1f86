"""Starting Ray and attaching to one, on real Rays.

Ray is one per process and is read-once in many ways, so each session lives in a script of its own; a script prints one
JSON document of what it saw. The pytest process itself never connects to Ray.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ensue.cluster import session
from ensue.cluster.ray_folder import SessionFolder
from ensue.events.errors import RayUnavailable

HEAD = "127.0.0.1:6390"
TOKEN, WRONG_TOKEN = "b" * 64, "c" * 64
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

PRELUDE = """
import json, os, stat, sys, threading
from pathlib import Path
from ensue.cluster import session
from ensue.events.errors import RayUnavailable

def say(**facts): print(json.dumps(facts), flush=True)

def refusal(*args, **kwargs):
    try: session.start(*args, **kwargs)
    except RayUnavailable as error: return str(error)

def workers(count):
    ray = session.ray_module()
    @ray.remote(num_cpus=0)
    class Worker:
        def pid(self): return os.getpid()
    handles = [Worker.remote() for _ in range(count)]
    return handles, ray.get([handle.pid.remote() for handle in handles])

def mode(path): return stat.S_IMODE(Path(path).stat().st_mode)
"""

EMBEDDED = """
lazy = "ray" not in sys.modules
import ray                                  # as a user's pipeline may, long before us
environment = dict(os.environ)
started = []
starter = threading.Thread(target=lambda: started.append(session.start()))
starter.start(); starter.join()             # the thread is gone, Ray must not go with it
first = started[0]
second = session.start()
handles, pids = workers(3)
listeners = session.check_listeners(first)
facts = dict(
    lazy=lazy, embedded=first.embedded, owned=first.owned, address=first.address, node_ip=first.node_ip,
    folder=first.folder, folder_mode=mode(first.folder), token_mode=mode(os.environ["RAY_AUTH_TOKEN_PATH"]),
    token_inside=os.environ["RAY_AUTH_TOKEN_PATH"].startswith(first.folder), shared=second == first,
    ips=sorted({listener.ip for listener in listeners}),
    listening=[listener.pid for listener in listeners], me=os.getpid(), workers=pids,
    other=refusal("127.0.0.1:1"),
)
session.stop(second)
facts["still_there_for_the_first"] = ray.is_initialized()
session.stop(first)
facts["gone"] = not ray.is_initialized()
facts["folder_left"] = Path(first.folder).exists()
facts["environment_restored"] = dict(os.environ) == environment
third = session.start()
facts["again"] = len(workers(1)[1])
facts["fresh_token"] = third.folder != first.folder
facts["third"] = third.folder               # and ends without stop
say(**facts)
"""

UNTIL_KILLED = """
from ensue.cluster.listeners import descendants
started = session.start()
handles, pids = workers(2)
session.check_listeners(started)
say(folder=started.folder, pids=sorted(descendants([os.getpid()]) - {os.getpid()}))
sys.stdin.read()
"""

UNTIL_INTERRUPTED = """
import time
started = session.start()
handles, pids = workers(1)
try:
    say(ready=True)
    while True: time.sleep(60)
except KeyboardInterrupt:
    alive = session.ray_module().get(handles[0].pid.remote()) == pids[0]
    session.stop(started)
    say(alive=alive, folder_left=Path(started.folder).exists())
"""

EXPOSED = """
from ensue.cluster import ray_embedded
ray_embedded._ENVIRONMENT["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
message = refusal()
say(message=message, connected=session.ray_module().is_initialized(), token=os.environ.get("RAY_AUTH_TOKEN_PATH"))
"""

IMPOSSIBLE = "say(message=refusal(object_store_bytes=1))"

ATTACHED = """
import ensue.cluster.ray_attach as ray_attach
address = sys.argv[1]
started = session.start(address)
handles, pids = workers(1)
facts = dict(embedded=started.embedded, address=started.address, worked=len(pids), listeners=session.check_listeners(started))
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


def run(
    script: str, *arguments: str, environment: Mapping[str, str] = CLEAN, timeout_seconds: float = 60
) -> dict[str, Any]:
    """What the script said last."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        env=CLEAN | {**environment},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def launch(script: str) -> subprocess.Popen[str]:
    """Runs the script in a process group of its own, as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env=CLEAN,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    facts: dict[str, Any] = json.loads(process.stdout.readline())
    return facts


def eventually(condition: Callable[[], bool], deadline_seconds: float) -> bool:
    """Looks often, until it holds or time is up."""
    ends = time.monotonic() + deadline_seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > ends:
            return False
        pause.wait(0.05)
    return True


def runs(pid: int) -> bool:
    """A zombie that nobody has reaped yet runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def two_lines(message: str) -> bool:
    return len(message.splitlines()) == 2


# An embedded Ray ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> dict[str, Any]:
    """One script that starts, shares, stops and starts again, with a TMPDIR too long for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="a-temporary-folder-with-a-name-" + "x" * 60) as long:
        return run(EMBEDDED, environment={"TMPDIR": long})


def test_importing_the_session_does_not_import_ray(embedded: dict[str, Any]) -> None:
    assert embedded["lazy"]


def test_every_listener_is_loopback_workers_and_ourselves_included(embedded: dict[str, Any]) -> None:
    assert embedded["ips"] == ["127.0.0.1"]
    assert {*embedded["workers"], embedded["me"]} <= {*embedded["listening"]}
    assert (embedded["address"].partition(":")[0], embedded["node_ip"]) == ("127.0.0.1", "127.0.0.1")


def test_token_is_readable_by_its_owner_alone(embedded: dict[str, Any]) -> None:
    assert embedded["token_inside"]
    assert (embedded["folder_mode"], embedded["token_mode"]) == (0o700, 0o600)


def test_sessions_of_one_process_share_a_ray_and_the_last_one_out_ends_it(embedded: dict[str, Any]) -> None:
    assert embedded["shared"]
    assert embedded["still_there_for_the_first"]
    assert embedded["gone"]


def test_a_second_ray_in_one_process_is_refused(embedded: dict[str, Any]) -> None:
    assert two_lines(embedded["other"])
    assert "already uses the Ray at 127.0.0.1:" in embedded["other"]


def test_stop_leaves_no_folder_and_the_environment_as_it_was(embedded: dict[str, Any]) -> None:
    assert not embedded["folder_left"]
    assert embedded["environment_restored"]


def test_after_a_stop_a_new_session_starts_with_a_token_of_its_own(embedded: dict[str, Any]) -> None:
    assert embedded["again"] == 1
    assert embedded["fresh_token"]


def test_an_exit_without_stop_leaves_no_folder(embedded: dict[str, Any]) -> None:
    assert not Path(embedded["third"]).exists()


def test_an_exposed_ray_is_refused_and_ended() -> None:
    seen = run(EXPOSED)
    assert two_lines(seen["message"])
    assert seen["message"].startswith("Ray listens where other machines can reach it: ")
    assert not seen["connected"]
    assert seen["token"] is None


def test_a_ray_that_cannot_start_says_so_in_two_lines() -> None:
    message = run(IMPOSSIBLE)["message"]
    assert two_lines(message)
    assert message.startswith("Ray could not be started: ")


def test_after_kill_9_everything_of_it_goes_away_by_itself() -> None:
    with launch(UNTIL_KILLED) as process:
        left = said(process)
        process.kill()
    assert eventually(lambda: not any(runs(pid) for pid in left["pids"]), deadline_seconds=20)
    assert eventually(lambda: not Path(left["folder"]).exists(), deadline_seconds=5)


def test_ctrl_c_reaches_us_and_leaves_ray_for_us_to_stop() -> None:
    with launch(UNTIL_INTERRUPTED) as process:
        assert said(process)["ready"]
        os.killpg(process.pid, signal.SIGINT)
        assert said(process) == {"alive": True, "folder_left": False}
    assert process.returncode == 0


# The folder -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_folder_whose_session_has_died_is_swept_by_the_next_and_a_living_one_is_not(base: Path) -> None:
    dead = base / "ensue-00000000"
    dead.mkdir()
    (dead / "lock").touch()
    living = SessionFolder.create()
    next_one = SessionFolder.create()
    assert sorted(base.iterdir()) == sorted([living.path, next_one.path])
    living.remove()
    next_one.remove()
    assert list(base.iterdir()) == []


@pytest.mark.usefixtures("base")
def test_modes_do_not_depend_on_the_umask() -> None:
    before = os.umask(0)
    try:
        folder = SessionFolder.create()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.token.stat().st_mode) == 0o600
    folder.remove()


@pytest.mark.usefixtures("base")
def test_the_undertaker_spares_a_process_that_is_not_of_the_session() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    folder = SessionFolder.create()
    folder.bury([stranger.pid])
    folder.remove()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


# A Ray that somebody else runs ----------------------------------------------------------------------------------------


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
            head.wait(30)


def _head(folder: str, auth: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).with_name("ray"))
    options = "--head --block --port 6390 --include-dashboard false --num-cpus 1 --object-store-memory 80000000"
    with log.open("wb") as output:
        return subprocess.Popen(
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
        with pytest.raises(RayUnavailable, match=f"^What answers at {address} is no Ray") as caught:
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
