"""Pictures listed in a CSV file."""

from __future__ import annotations

import pytest

from cutaway import datasets
from cutaway.errors import DataError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def make_csv(make_folder):
    """make_csv(text): the file beside 10 pictures 0.png to 9.png."""

    def make(text, encoding="utf-8", name="list.csv"):
        folder = make_folder({f"{index}.png": index for index in range(10)})
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return f"csv:{folder / name}"

    return make


def rows(count=10, template="{0}.png,{1}"):
    return "".join(template.format(index, "ab"[index % 2]) + "\n" for index in range(count))


def test_paths_and_labels(make_csv):
    found = datasets.load(make_csv("path,label\n" + rows()))
    assert found.classes == ("a", "b")
    assert [len(found.split(name)) for name in datasets.SPLITS] == [8, 1, 1]
    assert found.name == "csv:list.csv"
    assert found.source == "10 pictures listed in list.csv"
    for index, path in enumerate(found.train.paths):
        assert found.train.labels[index] == int(path.stem) % 2
        assert (found.train.image(index) == int(path.stem)).all()


def test_splits_as_listed_and_the_missing_one_from_train(make_csv):
    splits = ["train", "Train", "train", "train", "val", "valid", "test", "test", "train", "train"]
    body = "".join(f"{index}.png,{'ab'[index % 2]},{split}\n" for index, split in enumerate(splits))
    found = datasets.load(make_csv("path,label,split\n" + body))
    assert {name: sorted(path.stem for path in found.split(name).paths) for name in datasets.SPLITS} == {
        "train": ["0", "1", "2", "3", "8", "9"],
        "valid": ["4", "5"],
        "test": ["6", "7"],
    }
    found = datasets.load(make_csv("path,label,split\n" + body.replace(",val", ",train").replace("trainid", "train")))
    assert [len(found.split(name)) for name in datasets.SPLITS] == [7, 1, 2]


def test_byte_order_mark_line_ends_and_column_order(make_csv):
    expected = datasets.load(make_csv("path,label\n" + rows())).fingerprint
    text = " Label ,extra,PATH\r\n" + rows(template="{1},x,{0}.png").replace("\n", "\r\n") + "\r\n"
    assert datasets.load(make_csv("\ufeff" + text)).fingerprint == expected
    assert datasets.load(make_csv("path,label\n" + rows(template="./{0}.png, {1} "))).fingerprint == expected


def test_the_order_of_the_lines_does_not_matter(make_csv):
    lines = rows().splitlines(keepends=True)
    first = datasets.load(make_csv("path,label\n" + "".join(lines)))
    second = datasets.load(make_csv("path,label\n" + "".join(lines[::-1])))
    assert first.fingerprint == second.fingerprint


def test_labels_with_commas_quotes_line_breaks_and_any_script(make_csv):
    labels = ['"one, two"', '"say ""hi"""', '"two\nlines"', "猫", "e\u0301t\u00e9"]
    body = "".join(f"{index}.png,{labels[index % 5]}\n" for index in range(10))
    found = datasets.load(make_csv("path,label\n" + body))
    assert set(found.classes) == {"one, two", 'say "hi"', "two\nlines", "猫", "\u00e9t\u00e9"}


def test_numbers_are_ordered_by_value(make_csv):
    body = "".join(f"{index}.png,{[10, 9, 100][index % 3]}\n" for index in range(10))
    assert datasets.load(make_csv("path,label\n" + body)).classes == ("9", "10", "100")


def test_absolute_paths(make_csv, make_folder):
    other = make_folder({f"{index}.png": 50 + index for index in range(10)}, root="other")
    text = "path,label\n" + "".join(f"{other / f'{index}.png'},{'ab'[index % 2]}\n" for index in range(10))
    found = datasets.load(make_csv(text))
    assert found.train.image(0)[0, 0, 0] >= 50
    assert str(other) not in found.source


def test_missing_files_are_named_and_skipped_on_demand(make_csv):
    name = make_csv("path,label\n" + rows(12))
    with pytest.raises(DataError, match=r"2 of 12 .* 10.png \(cannot be read: No such file or directory\)"):
        datasets.load(name)
    assert datasets.load(name, skip_unreadable=True).num_skipped == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs one column 'path'; it is not among none"),
        ("file,label\n1.png,a\n", "needs one column 'path'; it is not among file, label"),
        ("path,class\n1.png,a\n", "needs one column 'label'"),
        ("path,path,label\n1.png,1.png,a\n", "'path'; it is twice"),
        ("path;label\n1.png;a\n", "needs one column 'path'"),
        ("path,label\n", "lists no pictures"),
        ("path,label\n1.png\n", "line 2: 1 cells, but 2 columns"),
        ("path,label\n1.png,a,b\n", "line 2: 3 cells, but 2 columns"),
        ("path,label\n1.png,\n", "line 2: the label is empty"),
        ("path,label\n\n,a\n", "line 3: the path is empty"),
        ("path,label\n1.png,a\n./1.png,b\n", "line 3: '1.png' was already listed in line 2"),
        ("path,label,split\n1.png,a,dev\n", "line 2: there is no split 'dev'"),
        ("path,label,split\n1.png,a,train\n2.png,b,\n", "gives no split for 2.png"),
        ('path,label\n1.png,"a\n', "is no CSV file"),
        ("path,label\n1.png,a\n2.png,A\n", "differ by capital letters only"),
        ("path,label\n1.png,a\n2.png,a\n", "only one class, 'a'"),
        (b"path,label\n1.png,\xff\n", "is not UTF-8 text"),
        ("path,label\n1.png,a\n2\0.png,b\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(make_csv, text, problem):
    with pytest.raises(DataError) as caught:
        datasets.load(make_csv(text))
    assert problem in caught.value.message


def test_no_such_list(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        datasets.load(f"csv:{tmp_path / 'none.csv'}")
