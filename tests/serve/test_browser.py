"""The page in headless Chromium: what a visitor does, and that nothing is asked of another machine meanwhile."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutaway.images import Limits
from cutaway.serve import pages, watching
from cutaway.serve.answers import data_uri
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import Example
from cutaway.serve.models import Loaded, Served
from cutaway.serve.server import running
from cutaway.serve.watched_file import Watch

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def classifier(fashion_model: Path) -> Classifier:
    return Classifier(fashion_model, provider="cpu")


@pytest.fixture(scope="module")
def url(classifier: Classifier) -> Iterator[str]:
    with running(create_app(classifier)) as address:
        yield address


@pytest.fixture
def pictures_on_disk(fashion_split: Any, tmp_path: Path) -> list[Path]:
    paths = []
    for index in range(6):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(fashion_split.image(index)[:, :, 0]).save(paths[-1])
    return paths


@contextmanager
def opened(
    browser: Any, url: str, width: int = 1280, height: int = 900, scheme: str = "light", refused: tuple[str, ...] = ()
) -> Iterator[Any]:
    """The page, which fails the test on any console error and any request to another machine.

    But for requests to paths that are meant to be `refused`, which every browser also tells in the console.
    """
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, permissions=["camera", "clipboard-read"]
    )
    page = context.new_page()
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and not message.location["url"].endswith(refused)
            else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((f"{url}/", "data:", "blob:")) else complaints.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda answer: (
            complaints.append(answer.url) if answer.status >= 400 and not answer.url.endswith(refused) else None
        ),
    )
    page.goto(url)
    yield page
    context.close()
    assert complaints == []


def upload(page: Any, path: Path) -> None:
    page.locator("#input-image input[type=file]").set_input_files(path)


def answer(page: Any) -> str:
    from playwright.sync_api import expect

    expect(page.locator("#explanation .cw-heat")).to_be_visible(timeout=30_000)
    return str(page.locator("#label .cw-label").first.inner_text())


def pixels(page: Any, selector: str) -> np.ndarray:
    """What an image of the page holds."""
    source = page.locator(selector).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_test_picture_gets_its_label_and_its_heatmap(browser, url, classifier, fashion_split, pictures_on_disk) -> None:
    from cutaway import heatmaps

    with opened(browser, url) as page:
        upload(page, pictures_on_disk[0])

        label = answer(page)
        (expected,) = classifier([fashion_split.image(0)])
        assert label == expected.top[0].label == classifier.classes[fashion_split.labels[0]]
        assert page.locator("#explained-class").inner_text() == label
        np.testing.assert_array_equal(pixels(page, "#seen img"), expected.seen[:, :, 0])
        shown = pixels(page, "#explanation .cw-heat")
        wanted = heatmaps.colorise(heatmaps.resize(heatmaps.normalise(expected.heatmap), *shown.shape[:2]))
        np.testing.assert_array_equal(shown, wanted)
        assert wanted.std() > 10


def test_another_class_can_be_asked_for_by_keyboard(browser, url, classifier, fashion_split, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    with opened(browser, url) as page:
        upload(page, pictures_on_disk[0])
        top = answer(page)
        other = next(name for name in classifier.classes if name != top)

        page.locator("#class-to-explain input").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type(other)
        page.keyboard.press("Enter")

        expect(page.locator("#explained-class")).to_have_text(other)
        assert page.locator("#label .cw-label").first.inner_text() == top


def test_two_classes_stand_side_by_side_under_one_slider(browser, url, classifier, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    with opened(browser, url) as page:
        upload(page, pictures_on_disk[0])
        answer(page)
        page.get_by_label("And why not another?").click()
        page.get_by_role("option", name=classifier.classes[3], exact=True).click()

        expect(page.locator("#compared-class")).to_have_text(classifier.classes[3])
        page.get_by_label("Opacity of the heat-map").fill("30")
        for index in range(2):
            expect(page.locator("#explanation .cw-heat").nth(index)).to_have_css("opacity", "0.3")
        left, right = (page.locator("#explanation .cw-stack").nth(index).bounding_box() for index in range(2))
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] < right["x"]


def test_slider_moves_the_heatmap_and_keeps_its_place(browser, url, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    with opened(browser, url) as page:
        upload(page, pictures_on_disk[0])
        answer(page)
        page.get_by_label("Opacity of the heat-map").fill("20")
        expect(page.locator("#explanation .cw-heat")).to_have_css("opacity", "0.2")

        before = page.locator("#explanation .cw-below").get_attribute("src")
        page.get_by_label("Remove Image").or_(page.get_by_label("Clear")).first.click()
        expect(page.locator("#explanation .cw-heat")).to_have_count(0)
        upload(page, pictures_on_disk[1])
        answer(page)
        assert page.locator("#explanation .cw-below").get_attribute("src") != before
        expect(page.locator("#explanation .cw-heat")).to_have_css("opacity", "0.2")
        expect(page.locator(".cw-opacity-value")).to_have_text("20%")


def test_feature_maps_of_the_picture_are_shown_layer_by_layer(browser, url, classifier, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    first, second = classifier.metadata.features
    with opened(browser, url) as page:
        page.get_by_role("tab", name="Feature maps").click()
        expect(page.locator("#feature-maps")).to_contain_text("Choose a picture")

        page.get_by_role("tab", name="Classify").click()
        upload(page, pictures_on_disk[0])
        answer(page)
        page.get_by_role("tab", name="Feature maps").click()
        expect(page.locator("#feature-maps img")).to_have_count(first.shape[0])

        page.get_by_label("Layer").click()
        page.get_by_role("option", name=second.layer, exact=True).click()
        expect(page.get_by_alt_text(f"Values of layer {second.layer}")).to_be_visible()


def test_long_name_of_a_class_leaves_the_matrix_on_a_phone(browser, make_model) -> None:
    names = ("a", "b", "c", "a class whose name tells all that could be said of the pictures in it")
    classifier = Classifier(make_model(classes=names, confusion_matrix=[[1, 0, 0, 0]] * 4), provider="cpu")
    with running(create_app(classifier)) as url, opened(browser, url, width=390, height=844) as page:
        page.get_by_role("tab", name="About").click()

        head, cell = page.locator(".cw-matrix thead tr"), page.locator(".cw-matrix tbody td").first
        cell.wait_for()
        assert head.bounding_box()["height"] < 200
        assert cell.bounding_box()["x"] < 200


def test_example_is_chosen_by_keyboard_and_its_true_class_shown(
    browser, classifier, fashion_split, pictures_on_disk, monkeypatch
) -> None:
    from playwright.sync_api import expect

    labels = [int(fashion_split.labels[index]) for index in range(2)]
    examples = [Example(pictures_on_disk[i], classifier.classes[label], label) for i, label in enumerate(labels)]
    monkeypatch.setattr("cutaway.serve.page.tabs.examples_of", lambda *_: examples)
    with running(create_app(classifier)) as url, opened(browser, url) as page:
        page.locator("#gallery button").nth(1).press("Enter")

        answer(page)
        expect(page.locator(".cw-verdict")).to_contain_text(f"True class: {classifier.classes[labels[1]]}")
        np.testing.assert_array_equal(pixels(page, "#seen img"), fashion_split.image(1)[:, :, 0])


def test_many_pictures_give_a_table_and_a_csv(
    browser, url, classifier, fashion_split, pictures_on_disk, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    (tmp_path / "broken.png").write_bytes(b"no picture")
    with opened(browser, url) as page:
        page.get_by_role("tab", name="Many pictures").click()
        page.locator("#many-files input[type=file]").set_input_files([*pictures_on_disk, tmp_path / "broken.png"])

        expect(page.locator(".cw-download")).to_be_visible(timeout=30_000)
        expect(page.locator(".cw-table tbody tr")).to_have_count(7)
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as CSV").press("Enter")
        assert download.value.suggested_filename == "predictions.csv"
        rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    expected = classifier([fashion_split.image(index) for index in range(6)])
    assert [row["label"] for row in rows] == [*(each.top[0].label for each in expected), ""]
    assert "cannot" in rows[-1]["error"]


def test_broken_picture_is_told_in_plain_words(browser, url, pictures_on_disk, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures_on_disk[0].read_bytes()[:200])
    with opened(browser, url) as page:
        upload(page, broken)

        toast = page.locator("[data-testid='toast-body']")
        toast.wait_for(timeout=30_000)
        assert "cannot" in toast.inner_text()
        assert "Traceback" not in toast.inner_text()
        assert page.locator("#label li").count() == 0


def test_pasted_picture_is_classified(browser, url, pictures_on_disk) -> None:
    data = base64.b64encode(pictures_on_disk[0].read_bytes()).decode()
    with opened(browser, url) as page:
        page.locator("#input-image input[type=file]").wait_for(state="attached")
        page.evaluate(
            """async (data) => {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const item = new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})});
                navigator.clipboard.read = async () => [item];
            }""",
            data,
        )
        page.get_by_label("Paste from clipboard").click()
        assert answer(page)


COPY = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
}"""


def test_pictures_pasted_by_keyboard_are_classified_one_after_the_other(
    browser, url, classifier, fashion_split, pictures_on_disk
) -> None:
    from playwright.sync_api import expect

    with opened(browser, url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator("#input-image input[type=file]").wait_for(state="attached")
        for index, path in enumerate(pictures_on_disk[:2]):
            page.evaluate(COPY, base64.b64encode(path.read_bytes()).decode())
            page.keyboard.press("Control+V")
            (expected,) = classifier([fashion_split.image(index)])
            expect(page.locator("#seen img")).to_have_attribute("src", data_uri(expected.seen))
            expect(page.locator("#label .cw-label").first).to_have_text(expected.top[0].label)


def test_who_logs_in_stays_in_and_classifies(browser, classifier, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    key = "an-api-key-of-the-tests"
    with (
        running(create_app(classifier, keys=[key])) as url,
        opened(browser, url, refused=("/login",)) as page,
    ):
        assert page.url == f"{url}/login"
        page.get_by_label("This server asks for a key.").fill("some-other-key-0123")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not a key of this server.")
        page.get_by_label("This server asks for a key.").fill(key)
        page.get_by_role("button", name="Open").click()
        upload(page, pictures_on_disk[0])
        assert answer(page)


def test_a_page_whose_login_ended_says_so_and_leads_to_the_login(browser, classifier, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    key = "an-api-key-of-the-tests"
    refused = ("/gradio_api/queue/join?",)
    with running(create_app(classifier, keys=[key])) as url, opened(browser, url, refused=refused) as page:
        page.get_by_label("This server asks for a key.").fill(key)
        page.keyboard.press("Enter")
        upload(page, pictures_on_disk[0])
        answer(page)
        page.context.clear_cookies()
        page.get_by_label("And why not another?").click()
        page.get_by_role("option", name=classifier.classes[3], exact=True).click()

        toast = page.locator("[data-testid='toast-body']")
        expect(toast).to_contain_text("This server asks for a key: reload the page and log in with it.")
        expect(page.get_by_role("alert").filter(has_text="Nobody is logged in here any more.")).to_be_visible()
        page.locator("#header").get_by_role("link", name="Reload the page").click()
        expect(page.get_by_label("This server asks for a key.")).to_be_focused()


def test_dropped_picture_is_turned_upright_and_classified(browser, url, classifier, fashion_split) -> None:
    """A phone's picture: turned in the file, and EXIF says how it was held."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    pixels_of_it = fashion_split.image(0)[:, :, 0]
    Image.fromarray(np.rot90(pixels_of_it)).save(file, "PNG", exif=exif)
    data = base64.b64encode(file.getvalue()).decode()
    with opened(browser, url) as page:
        page.get_by_label("Drop an image file here to upload").evaluate(
            """(target, data) => {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], "phone.png", {type: "image/png"}));
                for (const kind of ["dragenter", "dragover", "drop"])
                    target.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true}));
            }""",
            data,
        )
        assert answer(page) == classifier([fashion_split.image(0)])[0].top[0].label
        np.testing.assert_array_equal(pixels(page, "#seen img"), pixels_of_it)


def test_camera_picture_is_classified(browser, url) -> None:
    with opened(browser, url) as page:
        page.get_by_label("Capture from camera").click()
        page.get_by_text("Click to Access Webcam").click()
        # A picture taken before the camera gives frames is none.
        page.wait_for_function("document.querySelector('#input-image video')?.currentTime > 0")
        page.get_by_label("capture photo").click()
        assert answer(page)


def test_oversized_picture_is_told_in_plain_words(browser, classifier, pictures_on_disk, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(pictures_on_disk[0].read_bytes() + bytes(3000))
    limits = ServingLimits(image=Limits(max_bytes=3000))
    with running(create_app(classifier, limits=limits)) as url, opened(browser, url) as page:
        with page.expect_response("**/upload_progress*"):
            upload(page, large)
        toast = page.locator("[data-testid='toast-body']")
        assert "exceed the maximum allowed size" in toast.inner_text()
        assert "large.png" in toast.inner_text()

        upload(page, pictures_on_disk[0])
        assert answer(page)


def test_all_can_be_done_by_keyboard_alone(browser, url, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    with opened(browser, url) as page:
        page.get_by_role("tab", name="Classify").wait_for()
        tab_to(page, "Drop an image file here to upload")
        chosen_by_key(page).set_files(pictures_on_disk[0])
        answer(page)

        tab_to(page, "And why not another?")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#compared-class")).to_be_visible()

        tab_to(page, "Opacity of the heat-map")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".cw-opacity-value")).to_have_text("56%")

        tab_to(page, "About")
        page.keyboard.press("Enter")
        expect(page.locator("#about")).to_contain_text("How it was checked")


def chosen_by_key(page: Any) -> Any:
    """What Enter opens. A busy machine shows the button before it answers, and so a person presses it again."""
    from playwright.sync_api import TimeoutError as NotYetError

    for _ in range(10):
        with contextlib.suppress(NotYetError):
            with page.expect_file_chooser(timeout=3000) as chooser:
                page.keyboard.press("Enter")
            return chooser.value
    raise AssertionError("Enter opens nothing to choose a file with")


def tab_to(page: Any, name: str) -> None:
    """Presses Tab until the control of that name has the focus, and looks whether that can be seen."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(NAME_OF_FOCUSED) == name:
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


def test_every_control_and_every_picture_has_a_name_and_answers_are_read_out(browser, url, pictures_on_disk) -> None:
    with opened(browser, url) as page:
        upload(page, pictures_on_disk[0])
        label = answer(page)
        assert page.get_by_alt_text(f"Heat-map for {label}").is_visible()
        assert page.get_by_alt_text("The picture as the network saw it").is_visible()
        assert page.locator("img:visible:not([alt])").count() == 0
        assert label in page.locator("#explanation [aria-live=polite]:has(.cw-heat)").inner_text()
        for tab in page.get_by_role("tab").all():
            tab.click()
            for control in page.locator("button:visible, a:visible, select:visible, input:visible").all():
                assert control.evaluate(NAME), control.evaluate("element => element.outerHTML")
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_horizontal_scrolling_and_text_is_readable(
    browser, contrast, url, pictures_on_disk, tmp_path: Path, scheme: str
) -> None:
    broken = tmp_path / f"{'long' * 30}.png"
    broken.write_bytes(b"no picture")
    texts = {
        "Classify": (
            ".cw-title",
            ".cw-lead",
            "#hint .cw-note",
            "#seen figcaption",
            "#choices [data-testid=block-info]",
        ),
        "Many pictures": (".cw-table thead th", ".cw-table td", ".cw-failed td", ".cw-download", "#many-files a"),
        "Feature maps": ("#feature-maps .cw-note", ".cw-tiles figcaption"),
        "About": (".cw-facts dt", ".cw-facts dd"),
    }
    with opened(browser, url, 390, 844, scheme) as page:
        upload(page, pictures_on_disk[0])
        answer(page)
        for tab, selectors in texts.items():
            page.get_by_role("tab", name=tab).click()
            if tab == "Many pictures":
                page.locator("#many-files input[type=file]").set_input_files([pictures_on_disk[1], broken])
            for selector in (*selectors, "[role=tab][aria-selected=true]"):
                page.locator(selector).first.wait_for()
                assert contrast(page.locator(selector).first) >= 4.5, selector
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab

        page.get_by_role("tab", name="Classify").click()
        page.get_by_label("Remove Image").or_(page.get_by_label("Clear")).first.click()
        upload(page, broken)
        page.locator(".cw-failure").wait_for()
        assert contrast(page.locator(".cw-failure")) >= 4.5


NAME = """(element) => (element.getAttribute('aria-label') || element.innerText
    || [...(element.labels || [])].map((label) => label.innerText).join(' ') || '').trim()"""
NAME_OF_FOCUSED = f"() => ({NAME})(document.activeElement)"


def test_a_page_that_was_open_while_the_model_was_replaced_says_to_reload_it(
    browser, make_model, pictures_on_disk, tmp_path: Path, monkeypatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setattr(watching, "_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(pages, "_GAP_SECONDS", 0.0)
    path, other = tmp_path / "model.onnx", make_model(classes=("rouge", "vert", "bleu", "gris"), network="couleurs")
    path.write_bytes(make_model().read_bytes())
    watch = Watch(path, lambda: Classifier(path, provider="cpu"))
    served = Served("colours", Loaded(Classifier(path, provider="cpu")), watch)
    with (
        running(create_app([served])) as url,
        opened(browser, url, refused=("/page-1/gradio_api/queue/join?",)) as page,
    ):
        upload(page, pictures_on_disk[0])
        answer(page)
        path.write_bytes(other.read_bytes())
        while served.now.version == "1":
            page.wait_for_timeout(20)
        page.locator("#class-to-explain input").click()
        page.get_by_role("option", name="grey", exact=True).click()
        toast = page.locator("[data-testid='toast-body']")
        expect(toast).to_contain_text("The model was replaced since this page was opened. Reload the page.")
        expect(page.get_by_role("alert").filter(has_text="The model was replaced")).to_be_visible()
        expect(page.locator("#label")).to_be_hidden()  # of the picture before, and of the model before

        page.locator("#header").get_by_role("link", name="Reload the page").click()
        expect(page.locator("#header")).to_contain_text("couleurs")
        upload(page, pictures_on_disk[0])
        assert answer(page) in ("rouge", "vert", "bleu", "gris")


def test_each_model_s_page_leads_to_the_others(browser, classifier, make_model, pictures_on_disk) -> None:
    from playwright.sync_api import expect

    other = Classifier(make_model(network="couleurs"), provider="cpu")
    models = [Served("fashion", Loaded(classifier)), Served("colours", Loaded(other))]
    with running(create_app(models)) as url, opened(browser, url) as page:
        expect(page.locator("#models [aria-current=page]")).to_have_text("fashion")
        page.get_by_role("link", name="colours").click()
        expect(page.locator("#header")).to_contain_text("couleurs")
        assert page.url == f"{url}/models/colours/"
        expect(page.locator("#models [aria-current=page]")).to_have_text("colours")
        upload(page, pictures_on_disk[0])
        assert answer(page) in other.classes
