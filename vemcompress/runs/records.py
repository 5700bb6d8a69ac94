"""Fixed-size records in one sparse file, each with a checksum. A record that a kill cut short is ignored."""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from vemcompress.system.files import open_own, output_error

_HEADER = struct.Struct("<QI")  # the record's number + 1, because an empty file has only zeros; CRC-32 of the rest


class Records:
    """`count` records of `size` bytes each.

    One process writes. Only the requested record is read. The file has its full length from the beginning, but uses
    disk space only for written records. Raises OutputError.
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
        """Bytes of a file with this number of records, when full."""
        return count * (_HEADER.size + size)

    def read(self, number: int) -> bytearray | None:
        """A record; None if it was not written, is damaged or cannot be read."""
        with suppress(OSError):
            found = os.pread(self._file, _HEADER.size + self.size, self.length(number, self.size))
            if len(found) == _HEADER.size + self.size:
                head, body = found[: _HEADER.size], bytearray(memoryview(found)[_HEADER.size :])
                if _HEADER.unpack(head) == (number + 1, zlib.crc32(body)):
                    return body
        return None

    def write(self, number: int, body: bytes) -> None:
        """Write a record. Raises OutputError, for example if the disk is full."""
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
        self._file = -1  # the system may reuse the number for another file

    def remove(self) -> None:
        """Close the file and free its disk space."""
        self.close()
        with suppress(OSError):
            self.path.unlink()
