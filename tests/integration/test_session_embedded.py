"""The embedded Ray: on loopback, behind a token, shared within a process, and ended with it."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .processes import descendants
from .sessions import eventually, launch, run, runs, said, two_lines

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
from ensue.cluster.ray.listeners import descendants
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
from ensue.cluster.ray import embedded as ray_embedded
ray_embedded._ENVIRONMENT["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
message = refusal()
say(message=message, connected=session.ray_module().is_initialized(), token=os.environ.get("RAY_AUTH_TOKEN_PATH"))
"""

CALL_UNDER_WAY = """
import signal
from ensue.cluster.ray import embedded as ray_embedded
assert int(ray_embedded._ENVIRONMENT[TIMEOUT]) > 24 * 3600
ray_embedded._ENVIRONMENT[TIMEOUT] = "20"
started = session.start()
from ray.experimental import internal_kv
(gcs,) = ray_embedded._ray_pids(("gcs_server",))
os.kill(gcs, signal.SIGKILL)
call = threading.Thread(target=lambda: internal_kv._internal_kv_put("key", "value"), daemon=True)
call.start()
renewed = session.renew(started)
say(renewed=session.alive(renewed))
call.join()
"""

IMPOSSIBLE = "say(message=refusal(object_store_bytes=1))"


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


def test_how_long_a_call_to_a_lost_control_store_may_wait_before_ray_ends_the_process_is_ours_to_say() -> None:
    """By default Ray ends the process after a minute, even if another Ray has replaced the lost one."""
    script = f"TIMEOUT = 'RAY_gcs_rpc_server_reconnect_timeout_s'\n{CALL_UNDER_WAY}"
    with launch(script) as process:
        assert said(process) == {"renewed": True}
        assert process.wait(40) == 1  # twenty seconds, as said; so a year is a year


def test_a_ray_that_cannot_start_says_so_in_two_lines() -> None:
    message = run(IMPOSSIBLE)["message"]
    assert two_lines(message)
    assert message.startswith("Ray could not be started: ")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_everything_of_it_goes_away_by_itself_when_its_process_is_ended_by_a_signal(sign: signal.Signals) -> None:
    with launch(UNTIL_KILLED) as process:
        left = said(process)
        process.send_signal(sign)
    assert eventually(lambda: not any(runs(pid) for pid in left["pids"]), deadline_seconds=20)
    assert eventually(lambda: not Path(left["folder"]).exists(), deadline_seconds=5)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("started", ["gcs_server", "raylet", "DashboardAgent"])
def test_everything_of_it_goes_away_by_itself_when_its_process_is_ended_in_the_middle_of_a_start(
    sign: signal.Signals, started: str
) -> None:
    known: set[int] = set()

    def has_started() -> bool:
        known.update(descendants(process.pid))
        return any(started in title_of(pid) for pid in known)

    with launch("session.start()") as process:
        assert eventually(has_started, deadline_seconds=40)
        process.send_signal(sign)
        known.update(descendants(process.pid))
    assert eventually(lambda: not any(runs(pid) for pid in known), deadline_seconds=20)


def title_of(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_ctrl_c_reaches_us_and_leaves_ray_for_us_to_stop() -> None:
    with launch(UNTIL_INTERRUPTED) as process:
        assert said(process)["ready"]
        os.killpg(process.pid, signal.SIGINT)
        assert said(process) == {"alive": True, "folder_left": False}
        assert process.wait(20) == 0
