"""Labels files as people write them."""

import json

import pytest

from cutaway.errors import DataError
from cutaway.settings.labels import distinct, read_labels


@pytest.mark.parametrize(
    "data",
    [
        "cat\nbouledogue français\n犬\n".encode(),
        "cat\nbouledogue français\n犬".encode(),
        "\ufeffcat\r\n bouledogue français \r\n犬\r\n\r\n".encode(),
        json.dumps(["cat", "bouledogue français", "犬"]).encode(),
        json.dumps(["cat", "bouledogue français", "犬"], indent=1, ensure_ascii=False).encode(),
    ],
)
def test_one_a_line_or_a_json_list(tmp_path, data):
    (tmp_path / "labels").write_bytes(data)
    assert read_labels(tmp_path / "labels") == ("cat", "bouledogue français", "犬")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"[]", "is empty"),
        (b"cat\n\ndog\n", "Line 2"),
        (b"caf\xe9\n", "not UTF-8"),
        (b'["cat", ', "not valid JSON"),
        (b'["cat", 7]', "Number 2"),
        (b'["cat", " "]', "Number 2"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path, data, said):
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_labels(tmp_path / "labels.txt")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "labels.txt")


def test_labels_that_are_the_same_get_numbers_and_all_become_distinct():
    assert distinct(["crane", "cat", "crane", "crane"]) == ("crane", "cat", "crane (2)", "crane (3)")
    assert distinct(["a", "a", "a (2)"]) == ("a", "a (3)", "a (2)")
