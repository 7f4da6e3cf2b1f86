"""HandleTable: the handles that callers hold, by the id of their run.

Rules: the table keeps no handle alive. It belongs to the callers' event loop; `get` alone may be called in any thread.
"""

from weakref import WeakValueDictionary

from .handles import HandleSource, RunHandle

__all__ = ["HandleTable"]


class HandleTable:
    """One handle for each run that a caller has asked for."""

    def __init__(self, source: HandleSource) -> None:
        self._source = source
        self._handles: WeakValueDictionary[bytes, RunHandle] = WeakValueDictionary()
        self.get = self._handles.get

    def new(self, raw_id: bytes, *, duplicate: bool = False) -> RunHandle:
        """A new handle, in place of one that is there."""
        handle = self._handles[raw_id] = RunHandle(self._source, raw_id, duplicate=duplicate)
        return handle

    def all(self) -> list[RunHandle]:
        """The handles that callers hold now."""
        return list(self._handles.values())

    def fail(self, error: BaseException) -> None:
        """The engine can no longer tell how these runs end."""
        for handle in self.all():
            handle.fail(error)
