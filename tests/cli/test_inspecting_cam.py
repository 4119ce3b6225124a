"""`cutaway inspect cam`: what is written for which question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import restore, write_bundle
from cutaway.checkpoints.runs import find
from cutaway.cli import main
from cutaway.cli.inspecting.explained_pictures import class_index, file_words
from cutaway.errors import InspectionError
from cutaway.inspect import class_activation_maps


@pytest.fixture
def names(convolutional_run) -> list[str]:
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise.integers(0, 255, (28, 28), np.uint8)).save(name)
    return list(restore("run").classes)


def told(capsys, *words: str) -> list[dict]:
    assert main(["inspect", "cam", "run", "--images", "a.png", "b.png", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: str) -> str:
    assert main(["inspect", "cam", "run", "--images", "a.png", *words]) == 1
    assert not Path("cam").exists() or not list(Path("cam").rglob("*.*"))
    return capsys.readouterr().err


def written() -> list[str]:
    return sorted(str(file) for file in Path("cam").rglob("*") if file.is_file())


def test_several_methods_and_classes_lie_in_a_folder_of_the_pictures_name(names, capsys) -> None:
    entries = told(capsys, "--method", "grad-cam", "HiResCAM", "--label", names[3], names[5])
    assert len(entries) == 8
    assert [entry["overlay"].rpartition("--")[0] for entry in entries[:4]] == [
        "cam/a/grad-cam-1",
        "cam/a/hirescam-1",
        "cam/a/grad-cam-2",
        "cam/a/hirescam-2",
    ]
    share = round(100 * entries[0]["probability"])
    assert entries[0]["overlay"] == f"cam/a/grad-cam-1--{names[3].replace('/', '-')}-{share}.png"
    assert [(entry["label"], entry["method"], entry["picture"]) for entry in entries[3:5]] == [
        (names[5], "hirescam", "a.png"),
        (names[3], "grad-cam", "b.png"),
    ]
    assert len(written()) == 8


def test_raw_maps_are_what_the_function_gives(names, capsys) -> None:
    words = ["--method", "layercam", "--label", names[2], "--against", names[7], "--layers", "conv1", "relu2"]
    entries = told(capsys, *words, "--fusion", "max", "--smooth", "--no-mirror", "--raw")
    assert written() == sorted(entry[kind] for entry in entries for kind in ("raw", "overlay"))
    assert [entry["raw"].partition("--")[0] for entry in entries] == ["cam/a", "cam/b"]
    restored = restore("run")
    seen = np.stack([restored.preprocessing.picture(np.asarray(Image.open(n))[..., None]) for n in ("a.png", "b.png")])
    inputs = torch.from_numpy(restored.preprocessing.normalise(seen))
    from cutaway.inspect import Smoothing

    expected = class_activation_maps(
        restored.network,
        inputs,
        "layercam",
        ["conv1", "relu2"],
        2,
        against=7,
        fusion="max",
        smooth=Smoothing(mirror=False),
    )
    for number, entry in enumerate(entries):
        np.testing.assert_allclose(np.load(entry["raw"]), expected.maps[number].numpy(), atol=1e-6)
        assert entry["strongest"] == pytest.approx(float(expected.maps[number].max()), abs=1e-6)
        assert (entry["against"], entry["target_layer"]) == (names[7], "conv1 + relu2")


def test_an_overlay_of_no_opacity_is_the_picture(names, capsys) -> None:
    (clear, _), (mixed, _) = (told(capsys, "--opacity", opacity, "--out", opacity) for opacity in ("0", "0.7"))
    channels = np.asarray(Image.open(clear["overlay"]).convert("RGB")).astype(int)
    assert (channels.max(2) == channels.min(2)).all()
    assert Path(mixed["overlay"]).read_bytes() != Path(clear["overlay"]).read_bytes()


def test_top_classes_against_the_likeliest_other(names, capsys) -> None:
    entries = told(capsys, "--top", "2", "--against", "runner-up")
    first, second = entries[:2]
    assert first["probability"] >= second["probability"]
    assert (first["label"], second["label"]) == (second["against"], first["against"])


def test_the_class_is_in_the_name_and_the_networks_own_answer_in_the_line(names, capsys) -> None:
    (best, other) = told(capsys, "--top", "2")[:2]
    assert (best["top"], best["top_probability"]) == (best["label"], best["probability"])
    assert (other["top"], other["top_probability"]) == (best["label"], best["probability"])
    assert main(["inspect", "cam", "run", "--images", "a.png", "--label", other["label"], "--out", "one"]) == 0
    line, how = capsys.readouterr().out.splitlines()
    assert how == "Grad-CAM at relu2."
    share = f"{100 * best['probability']:.1f} %"
    assert f": {other['label']} " in line
    assert f"(its answer is {best['label']} {share})" in line
    (file,) = Path("one").iterdir()
    assert file.name.startswith("a--")
    assert line.startswith(f"one/{file.name}: ")


def test_two_pictures_never_share_a_file() -> None:
    assert file_words("T-shirt/top", 0, 0.934) == "T-shirt-top-93"
    assert file_words("../x  y", 0, 1.0) == "x-y-100"
    assert file_words("***", 3, 0.0) == "class-3-0"
    assert "--" not in file_words("a--b", 0, 0.5)
    assert len(file_words("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 300, 0, 0.5).encode()) < 60


def test_a_class_in_other_letters_is_suggested(names, capsys) -> None:
    assert f"Did you mean '{names[9]}'?" in refused(capsys, "--label", names[9].upper())
    assert f"Did you mean '{names[9]}'?" in refused(capsys, "--label", names[9][:-1])
    with pytest.raises(InspectionError) as error:
        class_index([f"c{number}" for number in range(30)], "zebra")
    assert error.value.hint.endswith("c19, and 10 more.")


def test_slow_methods_tell_how_far_they_are(names, capsys, monkeypatch) -> None:
    from cutaway.cli.inspecting import cam

    seen = []

    def track(items, description, total=None):
        seen.append((description, total))
        yield from items

    monkeypatch.setattr(cam, "bars", track)
    told(capsys, "--method", "score-cam")
    assert [description for description, _ in seen] == ["a: masking by channels", "b: masking by channels"]


def test_a_sheet_a_picture_shows_every_map_and_the_colours(names, capsys) -> None:
    entries = told(capsys, "--method", "grad-cam", "eigen-cam", "--top", "2", "--sheet")
    assert {entry["overlay"] for entry in entries} == {"cam/a.png", "cam/b.png"}
    assert written() == ["cam/a.png", "cam/b.png"]
    sheet = np.asarray(Image.open("cam/a.png").convert("RGB"))
    assert sheet.shape[0] > 400
    assert sheet.shape[1] > 700
    # The colour bar is there in full: its brightest and its darkest colour.
    from cutaway.heatmaps import color_table

    for color in color_table()[[60, 128, 200, 254]]:
        assert (np.abs(sheet.astype(int) - color).sum(2) <= 12).sum() > 10


def test_an_empty_map_is_told(names, capsys) -> None:
    # Somewhere among ninety pairs of classes nothing speaks for the one rather than for the other.
    empty = []
    for against in names:
        others = [name for name in names if name != against]
        empty += [e for e in told(capsys, "--label", *others, "--against", against) if not e["has_evidence"]]
    label, against, file = empty[0]["label"], empty[0]["against"], empty[0]["picture"]
    sentence = f"no positive evidence at relu2 for {label} rather than {against}"
    words = ["inspect", "cam", "run", "--images", file, "--label", label, "--against", against]
    assert empty[0]["told"] == sentence
    for extra in ([], ["--sheet"]):
        assert main([*words, *extra]) == 0
        assert f"{sentence}, so the map is empty" in capsys.readouterr().out


def test_what_makes_no_sense_is_told_before_anything_is_written(names, capsys) -> None:
    assert "no method 'gradcan'" in refused(capsys, "--method", "gradcan")
    assert "each method once" in refused(capsys, "--method", "grad-cam", "GradCAM")
    assert "Known are" in refused(capsys, "--method", "shap")
    assert "--label" in refused(capsys, "--against", names[1])
    assert "against itself" in refused(capsys, "--label", names[1], "--against", names[1])
    assert "exclude" in refused(capsys, "--label", names[1], "--top", "2")
    assert "top 11 of 10" in refused(capsys, "--top", "11")
    assert "no class 'Sock'" in refused(capsys, "--label", names[1], "--against", "Sock")
    assert "no layer 'conv9'" in refused(capsys, "--layers", "conv9")
    assert "'fc1' cannot be the target layer" in refused(capsys, "--target-layer", "fc1")
    assert "ViT" in refused(capsys, "--method", "attention-rollout")
    assert "same map for every class" in refused(capsys, "--method", "eigen-cam", "--against", "runner-up")


@pytest.mark.parametrize("command", ["cam", "attribution"])
def test_a_persons_own_pictures_are_never_written_over(command, names, capsys) -> None:
    own = Path("pics/deep/a.png")
    own.parent.mkdir(parents=True)
    Path("a.png").rename(own)
    Image.new("L", (28, 28)).save("pics/deep/b.jpg")
    Path("pics/deep/b.png").write_bytes(b"a neighbour")
    Path("linked").mkdir()
    Path("linked/a.png").hardlink_to(own)
    before = own.read_bytes()
    for images, out in (("pics", "pics/deep"), ("pics/deep/b.jpg", "pics/../pics/deep"), (str(own), "linked")):
        assert main(["inspect", command, "run", "--images", images, "--out", out]) == 1
        assert "Name another folder with --out" in capsys.readouterr().err
    assert own.read_bytes() == before
    assert Path("pics/deep/b.png").read_bytes() == b"a neighbour"
    assert len(list(Path("pics").rglob("*.*"))) == 3
    # Its own earlier answers are replaced.
    for _ in range(2):
        assert main(["inspect", command, "run", "--images", str(own), "--out", "made"]) == 0


@pytest.mark.parametrize("command", ["cam", "attribution"])
def test_a_name_that_no_font_can_write_is_its_number_on_a_figure(names, capsys, monkeypatch, command) -> None:
    from cutaway.inspect.attribution import drawing
    from cutaway.inspect.class_activation import sheets

    named = tuple(f"{chr(0x10FF00 + index)}\U00013080" for index in range(10))
    stored = find("run")
    tensors = restore("run").network.state_dict()
    shutil.rmtree(stored.path)
    write_bundle(stored.path, stored.manifest.model_copy(update={"classes": named}), {"model": tensors})
    room, draw = {"cam": (sheets, "draw_sheet"), "attribution": (drawing, "draw_attributions")}[command]
    drawn = []
    original = getattr(room, draw)
    monkeypatch.setattr(room, draw, lambda *a, **k: drawn.append(original(*a, **k)) or drawn[-1])
    own = ["--sheet", "--against", named[7]] if command == "cam" else ["--method", "saliency"]
    assert main(["inspect", command, "run", "--images", "a.png", "--label", named[3], *own, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] == named[3]
    said = " ".join([drawn[0].get_suptitle(), *(axes.get_xlabel() for axes in drawn[0].axes)])
    assert "class 3" in said
    assert ("rather than class 7" in " ".join(said.split())) == (command == "cam")
    assert "?" not in said
