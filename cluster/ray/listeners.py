"""Listeners: the TCP listeners of processes, and whether each is on loopback.

Rules: read only. On Linux this reads /proc; elsewhere psutil answers (Ray brings one). A process that ends meanwhile
has no listeners.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Listener", "descendants", "listeners_of"]

_PROC = Path("/proc")
_LISTEN = "0A"  # TCP_LISTEN in the `st` column of /proc/net/tcp
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket of one process."""

    pid: int
    process: str
    ip: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; a wildcard address is not loopback."""
        return ipaddress.ip_address(self.ip).is_loopback

    def __str__(self) -> str:
        return f"{self.process} (pid {self.pid}) on {self.ip}:{self.port}"


def listeners_of(pids: Iterable[int]) -> list[Listener]:
    """Every listening TCP socket of these processes, IPv4 and IPv6."""
    if sys.platform != "linux":
        return [listener for pid in pids for listener in _by_psutil(pid)]
    sockets = dict(_listening_sockets())
    return [
        Listener(pid, _name(pid), *sockets[inode]) for pid in pids for inode in _socket_inodes(pid) if inode in sockets
    ]


def descendants(roots: Iterable[int]) -> set[int]:
    """These processes and all their children, and theirs."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """(pid, parent pid) of every process that can be seen."""
    if sys.platform != "linux":
        for process in _psutil().process_iter(["ppid"]):
            yield process.pid, process.info["ppid"] or 0
        return
    for folder in _PROC.glob("[0-9]*"):
        if stat := _read(folder / "stat"):
            yield int(folder.name), int(stat.rpartition(")")[2].split()[1])


def _listening_sockets() -> Iterator[tuple[str, tuple[str, int]]]:
    """(socket inode, (address, port)) of every TCP socket that listens in this network namespace."""
    for table in ("net/tcp", "net/tcp6"):
        for line in _read(_PROC / table).splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN:
                yield columns[9], _endpoint(columns[1])


def _endpoint(text: str) -> tuple[str, int]:
    """`0100007F:1F90` as ("127.0.0.1", 8080): the kernel prints the address as 32-bit words in host order."""
    address, _, port = text.partition(":")
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return _plain(ipaddress.ip_address(raw)), int(port, 16)


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """`::ffff:127.0.0.1` as `127.0.0.1`, which it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _socket_inodes(pid: int) -> Iterator[str]:
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except _GONE:
        return
    for descriptor in descriptors:
        with contextlib.suppress(*_GONE):
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[8:-1]


def _name(pid: int) -> str:
    return _read(_PROC / str(pid) / "comm").strip() or "?"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except _GONE:
        return ""


def _by_psutil(pid: int) -> Iterator[Listener]:
    psutil = _psutil()
    try:
        process = psutil.Process(pid)
        connections = process.net_connections("tcp")
        name = process.name()
    except psutil.Error:
        return
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN:
            ip = _plain(ipaddress.ip_address(connection.laddr.ip))
            yield Listener(pid, name, ip, connection.laddr.port)


def _psutil() -> Any:
    """Can be imported once ray is imported: Ray puts its own copy on the path."""
    return importlib.import_module("psutil")
