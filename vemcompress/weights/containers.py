"""Checks the containers of torch.save against the file's own size, before any tensor is allocated."""

import io
import mmap
import os
import struct
import zipfile
import zlib
from pathlib import Path

from vemcompress.system.files import open_regular
from vemcompress.weights.pickles import MAX_BYTES, read_plan
from vemcompress.weights.plan import DAMAGED, Plan, Refused

_PIECE = 1 << 20  # bytes that are hashed at a time


def check_zip(path: Path) -> Plan:
    """Refuse a zip file whose members are compressed, overlap or do not fit, or whose tensors claim more bytes than
    it has. Raises Refused (or Forbidden) with the reason.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            size = os.fstat(file.fileno()).st_size
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise Refused(
                    "is a TorchScript archive, which carries code: save the module's state dict, or export it to an "
                    ".onnx file, and give that"
                )
            if "model.weights.h5" in archive.namelist():
                raise Refused(
                    "is a Keras model, which is not supported: where TensorFlow is installed, convert it to an .onnx "
                    "file, with model.export('saved') and `python -m tf2onnx.convert --saved-model saved --output "
                    "model.onnx`, and give that"
                )
            members = _members(archive, file, size)
            records = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(records) != 1:
                raise Refused("is a zip archive, but not one that torch.save wrote: give the weight file itself")
            if members[records[0]] > MAX_BYTES:
                raise Refused(f"has a pickle of more than {MAX_BYTES >> 20} MB: it is not a weight file")
            _check_sums(archive, file)
            file.seek(_data_offset(file, archive.getinfo(records[0])))
            plan = read_plan(io.BytesIO(file.read(members[records[0]])))
    except (Refused, MemoryError):
        raise
    except Exception as error:  # zipfile raises many kinds of exceptions for damaged archives
        raise Refused(DAMAGED) from error
    folder = records[0].removesuffix("data.pkl")
    for storage in plan.storages.values():
        held = members.get(f"{folder}data/{storage.key}")
        if held is None or held != storage.nbytes:
            raise Refused(f"claims {storage.nbytes} bytes for a tensor and holds {held or 0}: it is damaged or hostile")
    return plan


def _members(archive: zipfile.ZipFile, file, size: int) -> dict[str, int]:
    """The size of every member by name. All must be stored uncompressed, without overlap, in one folder, and inside
    the file.
    """
    file.seek(max(0, size - 22))
    # No comment after the directory, so that every reader finds the same directory.
    if file.read(4) != b"PK\x05\x06":
        raise Refused(DAMAGED)
    spans, members = [], {}
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Refused("has compressed members, which torch.save never writes: unpack it, or save it again")
        if info.flag_bits & 1:
            raise Refused("is encrypted: save it again without a password")
        begin = _data_offset(file, info)
        spans.append((info.header_offset, begin + info.file_size))
        members[info.filename] = info.file_size
    # torch ignores case when it looks up names.
    if len({name.lower() for name in members}) != len(spans) or len({n.split("/")[0] for n in members}) != 1:
        raise Refused("is a zip archive, but not one that torch.save wrote: give the weight file itself")
    spans.sort()
    ends = [0, *(end for _, end in spans)]
    if any(begin < end for (begin, _), end in zip(spans, ends, strict=False)) or ends[-1] > archive.start_dir:
        raise Refused("has overlapping members or claims more bytes than it has: it is damaged or hostile")
    return members


def _check_sums(archive: zipfile.ZipFile, file) -> None:
    """Refuse members that have changed since they were written. torch.save can be set to write no checksums; then
    all are 0.
    """
    if not any(info.CRC for info in archive.infolist()):
        return
    for info in archive.infolist():
        file.seek(_data_offset(file, info))
        found, left = 0, info.file_size
        while left and (piece := file.read(min(_PIECE, left))):
            found, left = zlib.crc32(piece, found), left - len(piece)
        if found != info.CRC:
            raise Refused(f"is damaged: {info.filename!r:.80} does not match its CRC: download or copy it again")


def _data_offset(file, info: zipfile.ZipInfo) -> int:
    file.seek(info.header_offset)
    header = file.read(30)
    signature, _, _, method = struct.unpack_from("<4s3H", header)
    name, extra = struct.unpack_from("<2H", header, 26)
    if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED:
        raise Refused(DAMAGED)
    return info.header_offset + 30 + name + extra


def check_legacy(path: Path) -> Plan:
    """The same for the format before torch 1.6: five pickles, then each storage's length and bytes. Raises Refused."""
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        size = len(view)
        for _ in range(3):  # magic number, protocol, description of the writing machine
            read_plan(view)
        plan = read_plan(view)
        keys = read_plan(view).value
        if type(keys) is not list or not all(type(key) is str for key in keys):
            raise Refused(DAMAGED)
        if len(keys) != len(plan.storages) or set(keys) != set(plan.storages):
            raise Refused("names tensors that it does not hold: it is damaged or hostile")
        position = view.tell()
        for key in keys:
            storage = plan.storages[key]
            held = struct.unpack("<q", view[position : position + 8])[0] if position + 8 <= size else -1
            position += 8 + storage.nbytes
            if held != storage.numel or position > size:
                raise Refused(f"claims {storage.nbytes} bytes for a tensor and is cut off: download it again")
    return plan
