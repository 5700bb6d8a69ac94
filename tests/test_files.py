"""Files are read as regular files under a limit, and JSON strictly."""

import os

import pytest

from vemcompress.system.files import open_regular, parse_json, read_bytes, read_json


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "fifo")


def test_a_link_to_a_device_is_refused(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(tmp_path / "zero")


def test_a_link_to_a_regular_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"weights"


def test_a_file_beyond_the_limit_is_refused_with_both_sizes(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2000))
    with pytest.raises(OSError, match="2,000 bytes, more than 1,000"):
        read_bytes(tmp_path / "file", limit=1000)
    assert len(read_bytes(tmp_path / "file", limit=2000)) == 2000


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000 + "]" * 100_000, "1e999", "-1e999", "NaN", "Infinity", "9" * 5000, '"\\ud800"', "{", "", "\xff"],
)
def test_json_that_cannot_be_written_again_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text.encode("latin-1"))


def test_json_that_is_whole_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, -2.5e3, null, true, "caf\u00e9 \\ud83d\\ude00"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, -2500.0, None, True, "caf\u00e9 \U0001f600"]}
