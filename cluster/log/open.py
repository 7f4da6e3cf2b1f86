"""Opening a store by its URL: the one place that knows which kinds of stores there are.

Rules: URLs are written as in SQLAlchemy: three slashes before a relative path, four before an absolute one.
"""

from os import PathLike
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

from ...events.errors import LogUnavailable
from .memory.log import MemoryLog
from .protocol import Log, Reader
from .sqlite.log import SqliteLog
from .sqlite.reader import SqliteReader

__all__ = ["open_log", "open_reader", "store_url"]

_EXAMPLES = "Use sqlite:///ensue.db, sqlite:////an/absolute/path.db or memory://"


class _SqliteStore(NamedTuple):
    path: str
    durability: Literal["full", "relaxed"]


def store_url(store: str | PathLike[str]) -> str:
    """The URL of a store: a path is that of a SQLite file.

    Raises: `LogUnavailable` if it is neither text nor a path, or a path that a URL cannot hold.
    """
    if isinstance(store, str):
        return store
    path: object = getattr(store, "__fspath__", lambda: None)()
    if not isinstance(path, str) or "?" in path:
        raise LogUnavailable(f"The store {store!r} is neither a URL nor a path without '?'. {_EXAMPLES}.")
    return f"sqlite:///{path}"


def open_log(url: str) -> Log:
    """The log of this store; the store is created or migrated if necessary.

    Raises:
        LogUnavailable: the URL does not name a store, or the store cannot be opened.
        LogForeign: the file belongs to another program.
        LogNewer: a newer ensue wrote the file.
        LogCorrupt: the file is damaged.
    """
    if url == "memory://":
        return MemoryLog()
    return SqliteLog(*_sqlite(url))


def open_reader(url: str) -> Reader:
    """A reader of an existing store; nothing is created. Raises as `open_log` does."""
    if url == "memory://":
        raise LogUnavailable("A memory store can be read only by the process that made it: ask its log for a reader.")
    return SqliteReader(_sqlite(url).path)


def _sqlite(url: str) -> _SqliteStore:
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        raise LogUnavailable(f"The Postgres log is not in this version of ensue. {_EXAMPLES}.")
    if scheme != "sqlite" or not separator:
        raise LogUnavailable(f"The store URL {url!r} is of no known kind. {_EXAMPLES}.")
    location, _, query = rest.partition("?")
    path = location.removeprefix("/")
    if path == location or path in ("", ":memory:"):
        raise LogUnavailable(f"The store URL {url!r} names no file. {_EXAMPLES}.")
    return _SqliteStore(path, _durability(url, query))


def _durability(url: str, query: str) -> Literal["full", "relaxed"]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    durability = options.pop("durability", "full")
    if options:
        raise LogUnavailable(f"The store URL {url!r} has an unknown option {min(options)!r}: only durability is known.")
    if durability == "full":
        return "full"
    if durability == "relaxed":
        return "relaxed"
    raise LogUnavailable(f"The store URL {url!r} asks for an unknown durability: use full or relaxed.")
