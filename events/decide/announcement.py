"""Announcements: notices of the engine as inputs of the partition."""

from collections.abc import Iterable

from ..model.codec import encode
from ..model.notices import Notice
from .inputs import Announce

__all__ = ["announcement"]


def announcement(notice: Notice, about: Iterable[tuple[str, str]] = ()) -> Announce:
    """A notice as an input. about: the steps that it is about, besides the one that it names."""
    model = type(notice)
    steps = frozenset((*about, (notice.pipeline, notice.step)))
    return Announce(model.__event_type__, model.__event_version__, encode(notice), steps)
