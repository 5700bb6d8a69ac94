"""Fixed-size records in one sparse file, each with a checksum: one that a kill cut short is as if it were not there."""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from vemcompress.system.files import open_own, output_error

_HEADER = struct.Struct("<QI")  # the record's number + 1, as nothing but zeros is there at first; CRC-32 of the rest


class Records:
    """`count` records of `size` bytes each. One process writes; nothing is read but the record that is asked for.

    The file has its full length from the beginning, and occupies what was written. Raises OutputError.
    """

    def __init__(self, path: Path, count: int, size: int):
        self.path, self.count, self.size = path, count, size
        try:
            self._file = open_own(path, os.O_RDWR)
            os.ftruncate(self._file, self.length(count, size))
        except OSError as error:
            raise output_error(path, error) from error

    @staticmethod
    def length(count: int, size: int) -> int:
        """Bytes of so many records, full."""
        return count * (_HEADER.size + size)

    def read(self, number: int) -> bytearray | None:
        """A record; None where there is none, or it is damaged or cannot be read."""
        with suppress(OSError):
            found = os.pread(self._file, _HEADER.size + self.size, self.length(number, self.size))
            if len(found) == _HEADER.size + self.size:
                head, body = found[: _HEADER.size], bytearray(memoryview(found)[_HEADER.size :])
                if _HEADER.unpack(head) == (number + 1, zlib.crc32(body)):
                    return body
        return None

    def write(self, number: int, body: bytes) -> None:
        """Raises OutputError, as on a full disk."""
        if not 0 <= number < self.count or len(body) != self.size:
            raise ValueError(f"record {number} of {len(body)} bytes, in a file of {self.count} of {self.size}")
        whole, offset = _HEADER.pack(number + 1, zlib.crc32(body)) + body, self.length(number, self.size)
        try:
            done = 0
            while done < len(whole):
                done += os.pwrite(self._file, memoryview(whole)[done:], offset + done)
        except OSError as error:
            raise output_error(self.path, error) from error

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._file)
        self._file = -1  # the system may give the number to another file

    def remove(self) -> None:
        """Close it, and give the disk its space back."""
        self.close()
        with suppress(OSError):
            self.path.unlink()
