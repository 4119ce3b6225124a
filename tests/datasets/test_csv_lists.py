"""Pictures listed in a CSV file."""

from __future__ import annotations

import pytest

from cutaway import datasets
from cutaway.errors import DataError
from cutaway.preprocessing import Preprocessing

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


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


def test_other_columns_and_the_folder_are_kept_with_their_pictures(make_csv, make_folder):
    make_folder({f"sub/{index}.png": index for index in range(10, 14)})
    body = "".join(f"{index}.png,{'ab'[index % 2]}, cam{index} ,\n" for index in range(10))
    body += "".join(f"sub/{index}.png,{'ab'[index % 2]},cam{index},x\n" for index in range(10, 14))
    found = datasets.load(make_csv("path,label,Camera,note\n" + body), valid_share=0.3)
    for name in datasets.SPLITS:
        split = found.split(name)
        assert set(split.columns) == {"folder", "camera", "note"}
        for index, path in enumerate(split.paths):
            assert split.columns["camera"][index] == f"cam{path.stem}"
            assert split.columns["folder"][index] == ("sub" if int(path.stem) >= 10 else ".")
            assert (
                split.called(index)
                == split.keys[index]
                == split.columns["folder"][index].replace("sub", "sub/").lstrip(".") + path.name
            )


def test_a_column_of_one_s_own_called_folder_counts(make_csv):
    found = datasets.load(make_csv("path,label,folder\n" + rows(template="{0}.png,{1},mine")))
    assert set(found.train.columns["folder"]) == {"mine"}


def test_columns_stay_with_their_pictures_in_memory_and_when_some_are_taken(make_csv):
    found = datasets.load(make_csv("path,label,n\n" + "".join(f"{i}.png,{'ab'[i % 2]},{i}\n" for i in range(10))))
    spec = Preprocessing(size=(4, 6), mean=(0.5,) * 3, std=(0.5,) * 3)
    split = datasets.into_memory(found, spec).train.take([5, 0, 2])
    assert [int(level) for level in split.columns["n"]] == split.images[:, 0, 0, 0].tolist()
    assert [split.called(index) for index in range(3)] == [f"{level}.png" for level in split.columns["n"]]
    assert split.take([]).columns == {"folder": (), "n": ()}
