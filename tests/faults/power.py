"""A disk that loses its power: an apsw VFS that knows what was synced, and what may be left of the rest.

Rules:
1. Everything goes to real files at once, so readers and shared memory work as usual. Beside them, each file has an
   image of what has been synced, and the list of what was written, truncated or deleted since.
2. After a power cut every call fails. What is left is written into a new folder: the synced images, and of the rest a
   seeded choice, sector by sector: it was written, it was not, or it is torn and has garbage in its place.
3. A new length may be lost like any write. A new name and a deletion may be lost until the folder is synced. SQLite's
   "unix" does that in the first sync of each journal and write-ahead file that it opens, and in a delete with syncdir.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

__all__ = ["SECTOR_BYTES", "Disk", "disk_on"]

SECTOR_BYTES = 512


@dataclass(slots=True)
class _Image:
    """What the disk holds of a file for certain, and what it was told since the last sync.

    told: (offset, bytes), or (new length, None). is_there: the file has not been deleted. is_named: the folder's sync
    has seen it; until then what had the name before, `ghost`, may come back.
    """

    synced: bytearray = field(default_factory=bytearray)
    told: list[tuple[int, bytes | None]] = field(default_factory=list[tuple[int, bytes | None]])
    is_there: bool = True
    is_named: bool = False
    ghost: bytearray | None = None


class Disk:
    """The state of one disk. `before` is called before each write, sync, truncation and deletion, and may raise."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.before: Callable[[str, str], None] = lambda _call, _name: None
        self.is_off = False
        self.random = random.Random(seed)  # noqa: S311 - seeded, so that it can be had again
        self._images: dict[str, _Image] = {}

    def cut(self) -> None:
        """The power is gone: from now on nothing works."""
        self.is_off = True

    def told(self, call: str, name: str) -> _Image:
        """A call that changes a file is about to happen; its image."""
        self.check()
        self.before(call, name)
        self.check()
        return self._images.setdefault(name, _Image())

    def check(self) -> None:
        """Raise where there is no power."""
        if self.is_off:
            raise apsw.IOError("the power is off")

    def opened(self, name: str) -> None:
        """A file is opened: content that was not written through this VFS counts as synced."""
        path = Path(name)
        if name not in self._images and path.exists():
            self._images[name] = _Image(bytearray(path.read_bytes()), is_named=True)

    def sync(self, image: _Image) -> None:
        """All that was told is on the disk."""
        for told in image.told:
            _apply(image.synced, *told)
        image.told.clear()

    def sync_folder(self) -> None:
        """All names are on the disk, and those that were deleted are not."""
        self._images = {name: image for name, image in self._images.items() if image.is_there}
        for image in self._images.values():
            image.is_named, image.ghost = True, None

    def delete(self, name: str) -> None:
        """A file is deleted; it may come back until the folder is synced."""
        image = self._images[name]
        self._images[name] = _Image(is_there=False, ghost=image.synced if image.is_named else image.ghost)

    def left_in(self, folder: Path) -> None:
        """Write what is left into a folder, under the same names."""
        for name, image in self._images.items():
            content = self._left_of(image)
            if content is not None:
                (folder / Path(name).name).write_bytes(content)

    def _left_of(self, image: _Image) -> bytearray | None:
        """A seeded choice of what was not synced; None where the file is not there."""
        if not image.is_named and self.random.randrange(2):
            return image.ghost
        if not image.is_there:
            return None
        content = bytearray(image.synced)
        share = self.random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        torn = self.random.choice((0.0, 0.0, 0.2))
        for offset, data in image.told:
            if data is None:
                if self.random.random() < share:
                    _apply(content, offset, None)
                continue
            for place, sector in _sectors(offset, data):
                self._maybe(content, place, sector, share, torn)
        return content

    def _maybe(self, content: bytearray, place: int, sector: bytes, share: float, torn: float) -> None:
        if self.random.random() < torn:
            cut = self.random.randrange(len(sector))
            _apply(content, place, sector[:cut] + self.random.randbytes(len(sector) - cut))
        elif self.random.random() < share:
            _apply(content, place, sector)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """What was written, cut at the borders of the disk's sectors."""
    borders = [offset, *range((offset // SECTOR_BYTES + 1) * SECTOR_BYTES, offset + len(data), SECTOR_BYTES)]
    ends = [*borders[1:], offset + len(data)]
    return [(start, data[start - offset : end - offset]) for start, end in zip(borders, ends, strict=True)]


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        disk.check()
        self._disk = disk
        self._name = str(name.filename() if isinstance(name, apsw.URIFilename) else name)
        self._owes_folder = bool(flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL))
        disk.opened(self._name)
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 SQLite's name
        image = self._disk.told("write", self._name)
        super().xWrite(data, offset)
        image.told.append((offset, bytes(data)))
        image.is_there = True

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 SQLite's name
        image = self._disk.told("truncate", self._name)
        super().xTruncate(newsize)
        image.told.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802 SQLite's name
        image = self._disk.told("sync", self._name)
        self._disk.sync(image)
        if self._owes_folder:
            self._owes_folder = False
            self._disk.sync_folder()

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 SQLite's name
        self._disk.check()
        return super().xRead(amount, offset)


class _System(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.name, "unix", makedefault=True)
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 SQLite's name
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 SQLite's name
        self._disk.told("delete", filename)
        super().xDelete(filename, syncdir)
        self._disk.delete(filename)
        if syncdir:
            self._disk.sync_folder()


def disk_on(name: str, seed: int) -> tuple[Disk, Callable[[], None]]:
    """A disk that SQLite uses by default until the second of these is called."""
    disk = Disk(name, seed)
    system = _System(disk)
    return disk, system.unregister
