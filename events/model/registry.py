"""The registry: event models by wire name.

Rules: one name, one model; the error about an unknown name says which names are known.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from ..errors import EventTypeUnknown, PipelineInvalid
from .codec import decode
from .event import Event

__all__ = ["Registry"]


class Registry:
    """Event models by wire name."""

    def __init__(self, models: Iterable[type[Event]] = ()) -> None:
        self._models: dict[str, type[Event]] = {}
        for model in models:
            self.add(model)

    def add(self, model: type[Event]) -> None:
        """Register a model.

        Raises: `PipelineInvalid` if another model has the name.
        """
        known = self._models.setdefault(model.__event_type__, model)
        if known is not model:
            msg = f"two event classes share the type {model.__event_type__!r}: {_place(known)} and {_place(model)}"
            raise PipelineInvalid(f"{msg}; name one with class {model.__name__}(Event, type=...)")

    def __getitem__(self, name: str) -> type[Event]:
        """The model of a wire name.

        Raises: `EventTypeUnknown` if there is none.
        """
        try:
            return self._models[name]
        except KeyError:
            raise EventTypeUnknown(self._unknown(name)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[type[Event]]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def decode(self, name: str, version: int, data: bytes) -> Event:
        """The event of this name and version in `data`.

        Raises: `EventTypeUnknown`, and the errors of `codec.decode`.
        """
        return decode(self[name], data, version)

    def _unknown(self, name: str) -> str:
        close = get_close_matches(name, self._models, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(self._models)) or 'none'}"
        return f"event type {name[:80]!r} is unknown; {hint}"


def _place(model: type[Event]) -> str:
    return f"{model.__module__}.{model.__qualname__}"
