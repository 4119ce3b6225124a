"""The page in headless Chromium, from a plain file server and with that gone: the server's answers, and no stranger."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutaway import heatmaps
from cutaway.datasets.builtin import FASHION_CLASSES
from cutaway.images import decode
from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.classifier import Classifier, Prediction
from cutaway.serve.web import Runtime, write_page

pytestmark = pytest.mark.browser

SECONDS = 60_000
READY_OFFLINE = "The network runs in your browser, and now also without a connection."


@pytest.fixture(scope="module")
def fashion_root(fashion_model: Path, fashion_split: Any, runtime: Runtime, tmp_path_factory) -> Path:
    """A folder to serve, with the page of the small network in `site/`."""
    root = tmp_path_factory.mktemp("fashion-root")
    model = Path(shutil.copy(fashion_model, tmp_path_factory.mktemp("with-examples")))
    examples = model.with_name(f"{model.stem}.examples")
    examples.mkdir()
    entries = []
    for number in range(3):
        Image.fromarray(fashion_split.image(number)[:, :, 0]).save(examples / f"{number}.png")
        label = int(fashion_split.labels[number])
        entries.append({"file": f"{number}.png", "label": FASHION_CLASSES[label], "class_index": label})
    (examples / "index.json").write_text(json.dumps({"split": "test", "examples": entries}))
    write_page(model, root / "site", runtime)
    return root


@pytest.fixture(scope="module")
def photo_root(photo_model: Path, runtime: Runtime, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photo-root")
    write_page(photo_model, root / "site", runtime)
    return root


@pytest.fixture(scope="module")
def fashion_files(fashion_split: Any) -> list[bytes]:
    """Twenty test pictures as files of the formats that browsers read, some enlarged, some in colour."""
    files = []
    for number in range(20):
        picture = Image.fromarray(fashion_split.image(number)[:, :, 0])
        if number % 3 == 1:
            picture = picture.resize((90 + number, 70), Image.Resampling.BICUBIC).convert("RGB")
        files.append(encoded(picture, ("PNG", "BMP", "WEBP", "GIF")[number % 4]))
    return files


@pytest.fixture(scope="module")
def photo_files(photos: list[np.ndarray]) -> list[bytes]:
    """Twenty photos as files; every other JPEG is turned by its EXIF data."""
    files = []
    for number, photo in enumerate(photos):
        picture = Image.fromarray(photo)
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        kind = ("JPEG", "PNG", "JPEG", "WEBP")[number % 4]
        files.append(encoded(picture, kind, **({"exif": exif, "quality": 90} if kind == "JPEG" else {})))
    return files


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}), **options)
    return file.getvalue()


class Opened:
    """A page and what was wrong with it.

    Attributes:
        page: Playwright's.
        complaints: Errors on the console, and requests beyond the page's own folder.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        context.on("request", lambda asked: None if asked.url.startswith((url, "blob:")) else self._note(asked.url))

    def _note(self, text: str) -> None:
        self.complaints.append(text)


@contextmanager
def opened(browser: Any, server: Any, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """The page in `site/`, which fails the test on anything on the console and any request beyond that folder."""
    url = f"{server.url}site/"
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, permissions=["camera", "clipboard-read"]
    )
    context.set_default_timeout(SECONDS)
    one = Opened(context, url)
    one.page.goto(url)
    yield one.page
    context.close()
    assert one.complaints == []
    assert [path for path in server.asked if not path.startswith("/site/")] == []


def ready_offline(page: Any) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#status-text")).to_have_text(READY_OFFLINE)


def give(page: Any, data: bytes, name: str = "picture") -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def top_class(page: Any) -> str:
    page.locator("#label li").first.wait_for()
    return str(page.locator("#label .cw-label").first.inner_text())


ASK = """async (files) => {
    const {Classifier} = await import("./classifier.js");
    const description = await (await fetch("model.json")).json();
    const classifier = new Classifier(description, () => {});
    const answers = [];
    for (const file of files) {
        const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
        const answer = await classifier.picture(new Blob([bytes]), -1);
        answers.push({
            probabilities: Array.from(answer.probabilities), size: [answer.size.height, answer.size.width],
            seen: answer.seen.pixels.toBase64(), heatmap: Array.from(answer.heatmap.values),
            shape: [answer.heatmap.height, answer.heatmap.width],
        });
    }
    classifier.worker.terminate();
    return answers;
}"""


def ask(page: Any, files: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the page's own classifier says of files, in numbers."""
    answers: list[dict[str, Any]] = page.evaluate(ASK, [base64.b64encode(file).decode() for file in files])
    return answers


def seen_of(answer: dict[str, Any], wanted: Prediction) -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer["seen"]), np.uint8).reshape(wanted.seen.shape)


def assert_agree(answers: Sequence[dict[str, Any]], expected: Sequence[Prediction], seen_within: int) -> None:
    assert len(answers) == len(expected) == 20
    for answer, wanted in zip(answers, expected, strict=True):
        probabilities = np.array(answer["probabilities"])
        assert probabilities.argmax() == wanted.top[0].index
        assert np.abs(probabilities - wanted.probabilities).max() < 0.01
        assert np.abs(seen_of(answer, wanted).astype(int) - wanted.seen).max() <= seen_within
        heatmap = np.array(answer["heatmap"]).reshape(answer["shape"])
        assert heatmap.shape == wanted.heatmap.shape
        assert np.corrcoef(heatmap.ravel(), wanted.heatmap.ravel())[0, 1] > 0.99
    assert len({prediction.top[0].index for prediction in expected}) > 3


def test_answers_are_the_servers_with_and_without_a_server(
    browser, serve, fashion_root, fashion_model, fashion_files
) -> None:
    expected = Classifier(fashion_model, provider="cpu")([decode(file) for file in fashion_files])
    server = serve(fashion_root)
    with opened(browser, server) as page:
        ready_offline(page)
        assert_agree(ask(page, fashion_files), expected, seen_within=0)
        server.stop()
        page.reload()
        ready_offline(page)
        assert_agree(ask(page, fashion_files), expected, seen_within=0)
        give(page, fashion_files[0])
        assert top_class(page) == expected[0].top[0].label


@pytest.mark.slow
def test_answers_on_photos_are_the_servers_with_and_without_a_server(
    browser, serve, photo_root, photo_model, photo_files
) -> None:
    expected = Classifier(photo_model, provider="cpu")([decode(file) for file in photo_files])
    server = serve(photo_root)
    with opened(browser, server) as page:
        ready_offline(page)
        assert_agree(ask(page, photo_files), expected, seen_within=6)
        server.stop()
        page.reload()
        ready_offline(page)
        assert_agree(ask(page, photo_files), expected, seen_within=6)


def drawn(page: Any, selector: str) -> np.ndarray:
    """What a canvas of the page holds, uint8 [H, W, 3]."""
    pixels, height, width = page.locator(selector).evaluate(
        """(canvas) => [Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data),
                        canvas.height, canvas.width]"""
    )
    return np.array(pixels, np.uint8).reshape(height, width, 4)[:, :, :3]


def test_the_heat_map_is_drawn_as_the_server_draws_it_and_any_class_is_explained_by_keyboard(
    browser, serve, fashion_root, fashion_model, fashion_files
) -> None:
    from playwright.sync_api import expect

    classifier = Classifier(fashion_model, provider="cpu")
    image = decode(fashion_files[0])
    top = classifier([image])[0].top[0]
    other = (top.index + 3) % 10
    with opened(browser, serve(fashion_root)) as page:
        ready_offline(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        assert page.locator("#input-image").evaluate("(area) => getComputedStyle(area).outlineStyle") == "solid"
        give(page, fashion_files[0])
        expect(page.locator("#explained-class")).to_have_text(top.label)
        expect(page.locator("#said")).to_contain_text(top.label)
        reached = []
        while "class-to-explain" not in reached:
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
        assert [name for name in reached if name in ("camera", "paste", "clear", "opacity")] == [
            "camera", "paste", "clear", "opacity"
        ]  # fmt: skip
        for _ in range(other + 1):
            page.keyboard.press("ArrowDown")
        expect(page.locator("#explained-class")).to_have_text(classifier.classes[other])
        assert page.locator("#heat").get_attribute("aria-label") == f"Heat-map for {classifier.classes[other]}"
        assert top_class(page) == top.label

        (expected,) = classifier([image], class_index=other)
        shown = drawn(page, "#heat")
        wanted = heatmaps.colorise(heatmaps.resize(heatmaps.normalise(expected.heatmap), *shown.shape[:2]))
        assert np.abs(shown.astype(int) - wanted).max() <= 3
        assert wanted.std() > 10
        np.testing.assert_array_equal(drawn(page, "#seen-picture")[:, :, :1], expected.seen)

        page.get_by_label("Opacity of the heat-map").fill("20")
        expect(page.locator("#heat")).to_have_css("opacity", "0.2")
        expect(page.locator("#opacity-value")).to_have_text("20%")


def test_a_picture_chosen_while_the_page_still_loads_is_classified(browser, serve, fashion_root, fashion_files) -> None:
    context, held = browser.new_context(service_workers="block"), []
    page = context.new_page()
    page.route("**/model.json", lambda route: held.append(route))
    with page.expect_request("**/model.json"):
        page.goto(f"{serve(fashion_root).url}site/")
    give(page, fashion_files[0])
    held.pop().continue_()
    assert top_class(page)
    context.close()


def test_broken_large_and_removed_pictures_leave_no_answer_behind(browser, serve, fashion_root, fashion_files) -> None:
    from playwright.sync_api import expect

    with opened(browser, serve(fashion_root)) as page:
        give(page, fashion_files[0])
        top_class(page)
        give(page, fashion_files[1][:60])
        expect(page.get_by_role("alert")).to_contain_text("The picture cannot be decoded")
        expect(page.locator("#label li")).to_have_count(0)
        expect(page.locator("#figure")).to_be_hidden()
        expect(page.locator("#preview")).to_be_hidden()
        large = page.evaluate(
            """async () => {
                const {decode} = await import("./decoding.js");
                return decode(new Blob([new Uint8Array(101)]), {bytes: 100}).catch((error) => error.message);
            }"""
        )
        assert "more than the 100 bytes that are allowed" in large
        give(page, fashion_files[0])
        top_class(page)
        expect(page.locator("#toast")).to_be_hidden()
        page.get_by_role("button", name="Remove").click()
        expect(page.locator("#label li")).to_have_count(0)
        expect(page.locator("#placeholder")).to_be_visible()


CLASS_CHOSEN_MEANWHILE = """async (name) => {
    window.told = [];
    new MutationObserver(() => window.told.push(document.getElementById("toast").textContent))
        .observe(document.getElementById("toast"), {childList: true});
    const transfer = new DataTransfer();
    transfer.items.add(new File(["no picture"], name));
    const [file, choice] = ["file", "class-to-explain"].map((id) => document.getElementById(id));
    file.files = transfer.files;
    file.dispatchEvent(new Event("change"));
    for (let turn = 0; turn < 9; turn++) await null; // so that it is on its way
    choice.value = "3";
    choice.dispatchEvent(new Event("change"));
}"""


def test_a_class_chosen_while_a_broken_picture_is_read_changes_nothing_of_what_is_told(
    browser, serve, fashion_root, fashion_files
) -> None:
    with opened(browser, serve(fashion_root)) as page:
        give(page, fashion_files[0])
        top_class(page)
        page.evaluate(CLASS_CHOSEN_MEANWHILE, "broken.png")
        page.wait_for_function("window.told.length > 0")
        give(page, fashion_files[0])  # whatever was asked before is answered before
        top_class(page)
        assert [text.partition(":")[0] for text in page.evaluate("window.told")] == ["The picture cannot be decoded"]


PASTE_OR_DROP = """([kind, data]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], "picture.png", {type: "image/png"}));
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.getElementById("input-image").dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_pasted_or_dropped_picture_is_classified(browser, serve, fashion_root, fashion_files, kind: str) -> None:
    with opened(browser, serve(fashion_root)) as page:
        page.locator("#class-to-explain option").nth(10).wait_for(state="attached")
        page.evaluate(PASTE_OR_DROP, [kind, base64.b64encode(fashion_files[0]).decode()])
        assert top_class(page)


def test_an_example_is_classified_by_keyboard_also_without_a_server(
    browser, serve, fashion_root, fashion_model, fashion_split
) -> None:
    (expected,) = Classifier(fashion_model, provider="cpu")([fashion_split.image(1)])
    server = serve(fashion_root)
    with opened(browser, server) as page:
        ready_offline(page)
        server.stop()
        page.reload()
        page.get_by_role("button", name=FASHION_CLASSES[fashion_split.labels[1]]).first.focus()
        page.keyboard.press("Enter")
        assert top_class(page) == expected.top[0].label


def test_a_picture_of_the_camera_is_classified_and_the_camera_let_go(browser, serve, fashion_root) -> None:
    from playwright.sync_api import expect

    with opened(browser, serve(fashion_root)) as page:
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Take the picture").click()
        assert top_class(page)
        expect(page.locator("#video")).to_be_hidden()
        assert page.locator("#video").evaluate("(video) => video.srcObject === null")
        assert re.search(r"from your \d+\s×\s\d+", page.locator("#seen-text").inner_text())


def test_a_camera_that_is_refused_may_be_asked_for_again_and_never_twice_at_once(browser, serve, fashion_root) -> None:
    from playwright.sync_api import expect

    with opened(browser, serve(fashion_root)) as page:
        camera = page.get_by_role("button", name="Use the camera")
        camera.wait_for()
        page.evaluate("""() => {
            navigator.mediaDevices.getUserMedia = () => new Promise((_, reject) => { window.refuse = reject; });
        }""")
        camera.click()
        expect(camera).to_be_hidden()
        page.evaluate("() => window.refuse(new Error())")
        expect(page.get_by_role("alert")).to_contain_text("no camera that this page may use")
        expect(camera).to_be_focused()


@pytest.mark.slow
def test_a_large_photo_is_read_in_strips_without_a_seam(browser, serve, fashion_root, fashion_model) -> None:
    """12 megapixels, three strips: what the network sees is what Pillow makes of all at once."""
    rows, columns = np.mgrid[0:3000, 0:4000]
    photo = np.stack([rows * 255 // 3000, columns * 255 // 4000, (rows // 40 + columns // 40) % 2 * 255], axis=-1)
    file = encoded(Image.fromarray(photo.astype(np.uint8)), "PNG", compress_level=1)
    assert len(file) < 2**20
    expected = Classifier(fashion_model, provider="cpu")([decode(file)])[0]
    with opened(browser, serve(fashion_root)) as page:
        (answer,) = ask(page, [file])
        np.testing.assert_array_equal(seen_of(answer, expected), expected.seen)


@pytest.mark.slow
def test_another_version_takes_over_when_it_is_asked_for(
    browser, serve, fashion_root, fashion_model, runtime, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    shutil.copytree(fashion_root / "site", tmp_path / "site")
    server = serve(tmp_path)
    with opened(browser, server) as page:
        ready_offline(page)
        style = tmp_path / "site" / "style.css"
        style.write_text(style.read_text() + "h1 { font-style: italic; }\n")
        for name in ("files.js", "model.json"):
            told = tmp_path / "site" / name
            told.write_text(re.sub(r'"version":"[0-9a-f]{16}"', '"version":"0123456789abcdef"', told.read_text()))
        page.reload()
        expect(page.locator("h1")).to_have_css("font-style", "normal")
        page.get_by_role("button", name="Load the new version").click()
        expect(page.locator("h1")).to_have_css("font-style", "italic")
        ready_offline(page)
        assert page.evaluate("caches.keys()") == ["cutaway /site/ 0123456789abcdef"]


@pytest.mark.slow
def test_pages_in_folders_below_are_left_alone(browser, serve, fashion_root, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    below = Path(shutil.copytree(fashion_root / "site", tmp_path / "site")) / "below"
    below.mkdir()
    (below / "index.html").write_text('<link rel="icon" href="../favicon.png"><h1>Another page</h1>')
    server = serve(tmp_path)
    with opened(browser, server) as page:
        ready_offline(page)
        page.goto(f"{server.url}site/below/")
        expect(page.locator("h1")).to_have_text("Another page")
        server.stop()
        for name in ("index.html", "?from=somewhere#answer"):
            page.goto(f"{server.url}site/{name}")
            ready_offline(page)


def test_a_file_of_another_version_is_not_kept(browser, serve, fashion_root, fashion_files, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    model = Path(shutil.copytree(fashion_root / "site", tmp_path / "site")) / "model.onnx"
    right = model.read_bytes()
    model.write_bytes(right + b"\0")
    os.utime(model, (0, 0))  # of such an old one browsers think that it stays as it is
    with opened(browser, serve(tmp_path)) as page:
        expect(page.get_by_role("alert")).to_contain_text("model.onnx is not the file that was exported")
        model.write_bytes(right)
        page.reload()
        ready_offline(page)
        give(page, fashion_files[0])
        assert top_class(page)


def test_a_browser_that_forbids_to_store_files_classifies_all_the_same(
    browser, serve, fashion_root, fashion_files, tmp_path: Path
) -> None:
    worker = Path(shutil.copytree(fashion_root / "site", tmp_path / "site")) / "worker.js"
    forbidding = 'self.caches.open = () => Promise.reject(new DOMException("no", "SecurityError"));\n'
    worker.write_text(forbidding + worker.read_text())
    with opened(browser, serve(tmp_path)) as page:
        give(page, fashion_files[0])
        assert top_class(page)


FLOAT_FORMS = {
    "stretched, bicubic": Preprocessing(
        size=(9, 7), interpolation="bicubic", mean=(0.2, 0.1, 0.3), std=(0.5, 0.4, 0.9)
    ),
    "padded": Preprocessing(size=(8, 13), resize="pad", fill=90, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
    "cut out": Preprocessing(size=(11, 12), resize="shorter", resize_to=17, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
    "grey three times": Preprocessing(size=(8, 8), color="grey3", mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
}


@pytest.mark.parametrize("form", FLOAT_FORMS)
def test_every_preprocessing_is_the_servers(browser, serve, make_model, photos, runtime, tmp_path, form: str) -> None:
    """By a file that takes normalised floats, whose preprocessing is all done here."""
    model = make_model(input="float", preprocessing=FLOAT_FORMS[form])
    files = [encoded(Image.fromarray(photo), "PNG") for photo in photos[:6]]
    expected = Classifier(model, provider="cpu")([decode(file) for file in files])
    write_page(model, tmp_path / "site", runtime)
    with opened(browser, serve(tmp_path)) as page:
        for answer, wanted in zip(ask(page, files), expected, strict=True):
            np.testing.assert_array_equal(seen_of(answer, wanted), wanted.seen)
            np.testing.assert_allclose(answer["probabilities"], wanted.probabilities, atol=1e-5)


BOTH_DEVICES = """async () => {
    if (!(await navigator.gpu?.requestAdapter())) return null;
    const {openNetwork} = await import("./runtime.js");
    const description = await (await fetch("model.json")).json();
    const model = await (await fetch("model.onnx")).arrayBuffer();
    const data = Uint8Array.from({length: 256 * 256 * 3}, (_, i) => ((i * 7919) >> 3) % 256);
    const answers = [];
    for (const kind of ["wasm", "webgpu"]) {
        const network = await openNetwork(kind, model, description);
        const outputs = await network.run({type: "uint8", data, dims: [1, 256, 256, 3]}, 0);
        answers.push(await Promise.all(["probabilities", "heatmap"].map(
            async (name) => Array.from(await outputs[name].getData()))));
    }
    return answers;
}"""


@pytest.mark.slow
def test_webgpu_gives_the_same_answer(browser_with_gpu, serve, photo_root) -> None:
    with opened(browser_with_gpu, serve(photo_root)) as page:
        ready_offline(page)
        answers = page.evaluate(BOTH_DEVICES)
        if answers is None:
            pytest.skip("this Chromium gives no WebGPU without a GPU")
        on_cpu, on_gpu = answers
        np.testing.assert_allclose(on_gpu[0], on_cpu[0], atol=1e-4)
        np.testing.assert_allclose(on_gpu[1], on_cpu[1], atol=1e-4)
        assert np.std(on_cpu[1]) > 0


# In place of ONNX Runtime and of a GPU: networks that answer at once, and on the CPU after a while.
PRETENDED_RUNTIME = """
const tensor = (values, dims) => ({ dims, getData: async () => Float32Array.from(values) });
export const openNetwork = async (kind) => ({
  run: async () => {
    await new Promise((done) => setTimeout(done, kind === "wasm" ? 60 : GPU.milliseconds));
    const probabilities = Array.from({ length: 10 }, (_, i) => Number(i === (kind === "wasm" ? 1 : GPU.top)));
    return { probabilities: tensor(probabilities, [1, 10]), heatmap: tensor([0, 1, 2, 3], [1, 2, 2]) };
  },
  close: async () => {},
});
"""
PRETENDED_GPU = """
Object.defineProperty(self.navigator, "gpu", { value: { requestAdapter: async () => ({ info: {} }) } });
"""
CHOOSE = """async () => {
    const network = await import("./network.js");
    await network.load(null, await (await fetch("model.json")).json());
    await network.tryGpu(null);
    return (await network.classify({}, -1)).device;
}"""


@pytest.mark.parametrize(("milliseconds", "top", "device"), [(0, 1, "the GPU"), (0, 2, "the CPU"), (90, 1, "the CPU")])
def test_a_gpu_is_used_where_it_gives_the_same_answer_sooner(
    browser, serve, fashion_root, fashion_files, tmp_path: Path, milliseconds: int, top: int, device: str
) -> None:
    from playwright.sync_api import expect

    site = Path(shutil.copytree(fashion_root / "site", tmp_path / "site"))
    gpu = f"const GPU = {{ milliseconds: {milliseconds}, top: {top} }};"
    (site / "runtime.js").write_text(gpu + PRETENDED_RUNTIME)
    (site / "network.js").write_text(PRETENDED_GPU + (site / "network.js").read_text())
    with opened(browser, serve(tmp_path)) as page:
        assert page.evaluate(CHOOSE) == device
        if device == "the GPU":
            ready_offline(page)  # it is tried next
            for file in fashion_files:
                give(page, file)
                top_class(page)
                if "GPU" in page.locator("#seen-time").inner_text():
                    break
            expect(page.locator("#seen-time")).to_contain_text("on the GPU.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_text_is_readable(
    browser, contrast, serve, fashion_root, fashion_files, scheme: str
) -> None:
    with opened(browser, serve(fashion_root), 390, scheme) as page:
        give(page, fashion_files[0])
        top_class(page)
        page.get_by_text("About this model").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for selector in (".cw-title", ".cw-lead", "#hint-text", "#status-text", "#label li", "#seen-time", "#says",
                         ".cw-choice", "select", "#clear", ".cw-facts dt", ".cw-facts dd"):  # fmt: skip
            assert contrast(page.locator(selector).first) >= 4.5, selector
        unnamed = page.locator("button, input, select, canvas, img, video").evaluate_all(UNNAMED)
        assert unnamed == []


# Elements of the page that a screen reader would have no name for.
UNNAMED = """(elements) => elements.filter((one) => !(one.ariaLabel || one.alt || one.textContent.trim()
    || one.labels?.length || one.hidden)).map((one) => one.outerHTML)"""
