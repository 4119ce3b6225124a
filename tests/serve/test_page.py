from __future__ import annotations

import io
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from cutaway.cli import serving
from cutaway.cli.served_runs import ServedRun
from cutaway.images import Limits
from cutaway.serve import page_mount, uploads
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.limits import ServingLimits
from cutaway.serve.page import Tab, build, figures, words
from cutaway.serve.page.about import about
from cutaway.serve.page.classify import NO_CLASS, SECOND_CLASS
from cutaway.serve.page.tabs import header

URL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def classifier(model_path: Path) -> Classifier:
    return Classifier(model_path, provider="cpu")


@pytest.fixture(scope="module")
def client(classifier: Classifier) -> Iterator[TestClient]:
    with TestClient(create_app(classifier), base_url=URL) as client:
        yield client


def bare(classifier: Classifier, limits: Limits) -> FastAPI:
    """The page alone."""
    page = page_mount.Page(lambda: build(classifier), limits)
    app = FastAPI(lifespan=lambda _: page.lifespan())
    app.mount("/", page)
    return app


@pytest.fixture(scope="module")
def bare_client(classifier: Classifier) -> Iterator[TestClient]:
    """The page without the gate before it: the inner doors must hold alone."""
    with TestClient(bare(classifier, Limits()), base_url=URL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.png"
    path.write_bytes(png(np.zeros((8, 8, 3), np.uint8) + np.uint8([255, 0, 0])))
    return path


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def upload(client: TestClient, data: bytes, name: str = "picture.png") -> str:
    response = client.post("/gradio_api/upload", files={"files": (name, data)})
    assert response.status_code == 200, response.text
    return response.json()[0]


def file_data(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def classify(client: TestClient, *data: Any, session: str = "abc") -> list[dict[str, Any]]:
    """What the browser does when the picture changes; the messages of the answer."""
    data = (*data, NO_CLASS)[:3]  # compared with no other class, unless it says with which
    joined = client.post("/gradio_api/queue/join", json={"data": list(data), "fn_index": 0, "session_hash": session})
    assert joined.status_code == 200, joined.text
    return messages(client.get(f"/gradio_api/queue/data?session_hash={session}").text)


def messages(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]


def completed(answer: list[dict[str, Any]]) -> dict[str, Any]:
    (message,) = [message for message in answer if message["msg"] == "process_completed"]
    return message


def test_uploaded_picture_is_classified_and_explained(classes_in, client, pictures) -> None:
    answer = completed(classify(client, file_data(upload(client, png(pictures("blue", 20, 20)))), -1))

    assert answer["success"]
    label, explanation, seen = answer["output"]["data"]
    assert classes_in(label)[:2] == ["blue", "grey"]
    assert re.findall(r'cw-probability">([^<]*)<', label)[0] == "99.6%"  # which rounded to 100% would look certain
    assert 'id="explained-class">blue<' in explanation
    assert explanation.count("data:image/png;base64,") == 2
    seen = seen.replace("\N{NO-BREAK SPACE}", " ")
    assert "8 × 8 pixels in colour, from your 20 × 20" in seen
    assert re.search(r"Answered in [\d.]+ m?s on the CPU\.", seen)


def test_another_class_is_explained_when_asked(client, pictures) -> None:
    path = upload(client, png(pictures("blue")))

    explanation = completed(classify(client, file_data(path), 3))["output"]["data"][1]
    assert 'id="explained-class">grey<' in explanation
    explanation = completed(classify(client, file_data(path), 0))["output"]["data"][1]
    assert "Nothing in this picture speaks for" in explanation
    assert 'id="explained-class">red<' in explanation


def test_two_classes_are_explained_side_by_side(client) -> None:
    # Yellow speaks as much for red as for green.
    path = upload(client, png(np.full((8, 8, 3), (200, 200, 0), np.uint8)))

    def explained(target: int, other: int) -> str:
        return completed(classify(client, file_data(path), target, other))["output"]["data"][1]

    assert "compared-class" not in explained(0, NO_CLASS)
    both = explained(0, 1)
    assert 'id="explained-class">red<' in both
    assert 'id="compared-class">green<' in both
    assert "at their strongest points they are about equal" in both
    assert both.count("cw-heat") == 2
    assert 'id="compared-class">' in explained(-1, SECOND_CLASS)


def test_the_second_class_is_the_next_most_probable(classes_in, client, pictures) -> None:
    path = upload(client, png(pictures("blue")))

    label, explanation, _ = completed(classify(client, file_data(path), -1, SECOND_CLASS))["output"]["data"]
    second = classes_in(label)[1]
    assert f'id="compared-class">{second}<' in explanation
    assert "times the evidence" in explanation


def test_no_picture_gives_the_empty_page(classes_in, client) -> None:
    label, explanation, seen = completed(classify(client, None, -1))["output"]["data"]

    assert classes_in(label) == []
    assert "The answer will be shown here." in label
    assert "will be shown here" in explanation
    assert seen == ""


def test_broken_picture_is_told_in_words_and_leaves_no_stale_answer(classes_in, client) -> None:
    answer = classify(client, file_data(upload(client, b"not a picture", "<b>x.png")), -1)

    (toast,) = [message for message in answer if message["msg"] == "log"]
    assert (toast["level"], toast["title"]) == ("warning", "No answer")
    assert len(toast["log"]) > 20
    assert "<" not in toast["log"]
    label, explanation, seen = completed(answer)["output"]["data"]
    assert classes_in(label) == []
    assert "The answer will be shown here." in label
    assert "will be shown here" in explanation
    assert f'<p class="cw-failure">{toast["log"]}</p>' == seen  # a toast is gone after seconds


ATTACKS = {
    "absolute": lambda secret: str(secret),
    "system file": lambda secret: "/etc/passwd",
    "upwards": lambda secret: (
        f"{uploads.upload_folder()}/../{secret.relative_to('/tmp') if secret.is_relative_to('/tmp') else secret}"
    ),
    "relative": lambda secret: os.path.relpath(secret),
    "folder": lambda secret: str(uploads.upload_folder()),
    "missing": lambda secret: f"{uploads.upload_folder()}/missing.png",
    "empty": lambda secret: "",
    "null byte": lambda secret: "/etc/pass\0wd",
    "address": lambda secret: "http://127.0.0.1:9/secret.png",
    "file address": lambda secret: f"file://{secret}",
    "look-alike folder": lambda secret: f"{uploads.upload_folder()}-other/x.png",
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_no_other_file_and_no_address_is_opened(
    client, bare_client, secret, monkeypatch, attack: str, argument: int
) -> None:
    opened: list[Any] = []

    def note(path: Any, **_: Any) -> str:
        opened.append(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", note)
    monkeypatch.setattr("gradio.processing_utils.save_file_to_cache", note)
    monkeypatch.setattr("cutaway.serve.page.classify.decode", note)
    before = {path for path in uploads.upload_folder().rglob("*") if path.is_file()}
    data: list[Any] = [None, -1, NO_CLASS]
    data[argument] = file_data(ATTACKS[attack](secret))

    for each in (client, bare_client):
        answer = classify(each, *data, session=f"s{attack}{argument}".replace(" ", ""))
        assert not completed(answer)["success"]
        assert "red" not in json.dumps(answer)

    assert opened == []
    assert {path for path in uploads.upload_folder().rglob("*") if path.is_file()} == before


def test_a_tab_s_own_component_opens_no_other_file_either(ask, secret) -> None:
    """A further tab may hold a component of Gradio's own, which is not guarded."""

    def build_plain() -> gr.Blocks:
        with gr.Blocks() as blocks:
            picture, text = gr.Image(type="filepath", elem_id="plain"), gr.Textbox()
            picture.change(lambda path: Path(path).read_bytes().hex(), picture, text)
        return blocks

    page = page_mount.Page(build_plain, Limits())
    app = FastAPI(lifespan=lambda _: page.lifespan())
    app.mount("/", page)
    with TestClient(app, base_url=URL, raise_server_exceptions=False) as client:
        own = ask(client, "plain", "change", [file_data(upload(client, secret.read_bytes()))])[-1]
        assert own["success"]
        for path in (str(secret), "/etc/passwd"):
            assert not ask(client, "plain", "change", [file_data(path)])[-1]["success"]


def test_link_out_of_the_folder_is_not_followed(client, secret) -> None:
    link = uploads.upload_folder() / "link.png"
    link.symlink_to(secret)
    try:
        assert not completed(classify(client, file_data(str(link)), -1, session="link"))["success"]
    finally:
        link.unlink()


@pytest.mark.parametrize("route", ["call/classify", "call/v2/classify", "run/classify", "api/classify", "run/predict"])
def test_calls_by_name_are_closed_and_open_no_file_even_without_the_gate(client, bare_client, route, secret) -> None:
    body = {"data": [file_data(str(secret)), -1]}

    assert client.post(f"/gradio_api/{route}", json=body).status_code == 404

    response = bare_client.post(f"/gradio_api/{route}", json=body)
    text = response.text
    if response.status_code == 200 and "event_id" in response.json():
        text = bare_client.get(f"/gradio_api/call/classify/{response.json()['event_id']}").text
    assert "red" not in text


@pytest.mark.parametrize("client_name", ["client", "bare_client"])
def test_file_route_gives_uploads_only(request, client_name: str, secret) -> None:
    client = request.getfixturevalue(client_name)

    assert client.get(f"/gradio_api/file={upload(client, b'mine')}").content == b"mine"
    for path in ("/etc/passwd", str(secret), f"{uploads.upload_folder()}/../../etc/passwd", __file__):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_uploaded_svg_is_a_download_and_never_run(client) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    path = upload(client, svg, "evil.svg")
    classify(client, file_data(path), -1, session="svg")

    response = client.get(f"/gradio_api/file={path}")

    assert response.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in response.headers["content-security-policy"]


def test_upload_folder_is_private() -> None:
    assert stat.S_IMODE(uploads.upload_folder().stat().st_mode) == 0o700


def test_uploads_are_deleted_as_soon_as_the_page_says(classifier) -> None:
    with TestClient(bare(classifier, Limits()), base_url=URL) as client:
        path = Path(upload(client, b"mine"))
        assert path.exists()
        assert "deleted there within two hours" in client.get("/").text
    assert not path.exists()  # also by a page that ends before
    every, age = build(classifier).delete_cache
    assert every + age <= 2 * 3600


def test_oldest_uploads_go_first_when_the_folder_is_full(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "upload_folder", lambda: tmp_path)
    for age, name in enumerate(("old", "middle", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"x" * 100)
        os.utime(tmp_path / name / "a.png", (1000 + age, 1000 + age))

    uploads.make_room(250)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.png")) == ["middle", "new"]
    uploads.make_room(250)
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_folder_of_an_upload_that_gradio_deleted_goes_a_minute_later(client) -> None:
    emptied, full = (Path(upload(client, bytes([200 + index]) * 9)) for index in range(2))
    emptied.unlink()
    uploads.make_room()
    assert emptied.parent.exists()  # it may be one that an upload is just moved into
    for path in (emptied, full):
        os.utime(path.parent, (1000, 1000))
    uploads.make_room()
    assert (emptied.parent.exists(), full.exists()) == (False, True)


def test_uploads_never_outgrow_their_quota(client, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "QUOTA_BYTES", 3000)
    for index in range(10):
        upload(client, bytes([index]) * 1000, f"{index}.png")

    held = sum(path.stat().st_size for path in uploads.upload_folder().rglob("*") if path.is_file())
    assert held <= 3000 + 1000  # the quota, and the upload that came after making room


def test_uploads_are_bounded_in_number_too_and_their_folders_go_with_them(client, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "QUOTA_FILES", 3)
    before = set(uploads.upload_folder().iterdir())
    for index in range(6):
        upload(client, bytes([index]) * 7, f"{index}.png")

    folders = [path for path in uploads.upload_folder().iterdir() if len(path.name) == 64 and path not in before]
    assert len(folders) <= 3 + 1
    assert all(any(path.iterdir()) for path in folders)


def test_upload_beyond_the_limit_is_refused(classifier) -> None:
    with TestClient(bare(classifier, Limits(max_bytes=1000)), base_url=URL) as client:
        assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 2000)}).status_code == 413


def test_what_the_page_cannot_do_for_a_client_is_told_and_leaves_no_traceback(client, caplog) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n--x--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    assert client.post("/gradio_api/upload", content=form, headers=kind).status_code == 415
    assert "session_not_found" in client.get("/gradio_api/queue/data?session_hash=nobody").text
    assert not caplog.records


def test_page_names_no_other_machine_and_writes_nothing_beside_the_source(client) -> None:
    html = client.get("/").text

    assert "input-image" in html
    assert "fonts.googleapis" not in html
    assert 'analytics_enabled":false' in html.replace(" ", "")
    assert not list(Path(page_mount.__file__).parent.glob("*.pyi"))


def test_strings_from_the_file_are_escaped(make_model, pictures) -> None:
    evil = "<img src=x onerror=alert(1)>"
    classifier = Classifier(
        make_model(
            classes=(evil, "b", "b", "d"), network=evil, target_layer=evil, metrics={evil: 1.0}, versions={evil: evil}
        )
    )
    (prediction,) = classifier([pictures("red")])
    shown = [
        header(classifier),
        figures.how_to_read(classifier.metadata),
        about(classifier),
        figures.explanation([prediction, prediction], pictures("red"), classifier.metadata.preprocessing),
        figures.seen(prediction, pictures("red"), classifier.device),
    ]

    assert prediction.top[0].label == evil
    assert not any(evil in part for part in shown)
    assert "&lt;img" in shown[2]


def test_classes_of_one_name_are_told_apart() -> None:
    assert words.unique_names(("a", "b", "a")) == ("a (0)", "b", "a (2)")


def test_page_of_a_file_without_heatmaps_hides_their_part(classes_in, make_model, pictures) -> None:
    with TestClient(create_app(Classifier(make_model(target_layer=None, method=None))), base_url=URL) as client:
        label, explanation, _ = completed(classify(client, file_data(upload(client, png(pictures("green")))), -1))[
            "output"
        ]["data"]
        (shown,) = [
            each["props"]
            for each in client.get("/config").json()["components"]
            if each["props"].get("elem_id") == "label"
        ]
    assert classes_in(label)[0] == "green"
    assert "data:image" not in explanation
    assert "aria-live" in shown["js_on_load"]  # or a screen reader would read no answer


def test_further_tabs_are_shown(classifier) -> None:
    blocks = build(classifier, [Tab("Layers", lambda: gr.Markdown("A table of layers"))])

    config = json.dumps(blocks.get_config_file(), default=str)
    assert "A table of layers" in config
    assert '"label": "Layers"' in config


def test_tabs_of_a_run_are_on_the_page_that_the_command_serves(model_path, monkeypatch, tmp_path) -> None:
    apps: list[FastAPI] = []
    monkeypatch.setattr("cutaway.serve.server.serve", lambda app, **_: apps.append(app))
    served = ServedRun(model_path, (Tab("Layers", lambda: gr.Markdown("A table of layers")),))
    monkeypatch.setattr(serving, "prepare", lambda *_, **__: served)

    serving.run_serve([str(tmp_path)])

    with TestClient(apps[0], base_url=URL) as client:
        assert "A table of layers" in client.get("/config").text


def test_pictures_of_too_many_pixels_are_refused_on_the_page_too(model_path, ask, pictures) -> None:
    limits = ServingLimits(image=Limits(max_pixels=100))
    with TestClient(create_app(Classifier(model_path, provider="cpu"), limits=limits), base_url=URL) as client:
        large = file_data(upload(client, png(pictures("red", 20, 20))))
        told = ask(client, "input-image", "change", [large, -1, NO_CLASS])
        table = ask(client, "many-files", "change", [[large | {"orig_name": "a.png"}]])[-1]["output"]["data"][0]
    for said in (next(each["log"] for each in told if each["msg"] == "log"), table):
        assert "20 x 20 pixels, more than the 100 that are allowed" in said


def test_the_page_and_the_api_share_their_places(model_path, ask, pictures) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Classifier):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            entered.set()
            assert leave.wait(30)
            return super().__call__(*arguments, **options)

    app = create_app(Slow(model_path, provider="cpu"), limits=ServingLimits(running=1, waiting=0))
    with TestClient(app, base_url=URL) as client, ThreadPoolExecutor() as pool:
        picture = png(pictures("red"))
        first = pool.submit(client.post, "/v1/classify", files={"images": picture})
        assert entered.wait(30)
        told = ask(client, "input-image", "change", [file_data(upload(client, picture)), -1, NO_CLASS])
        leave.set()
        assert first.result().status_code == 200
    assert ["busy" in message["log"] for message in told if message["msg"] == "log"] == [True]


def test_probabilities_never_round_to_certainty() -> None:
    assert words.percent(0.99999) == "more than 99.9%"
    assert words.percent(1e-9) == "less than 0.1%"
    assert words.percent(0.5) == "50.0%"
