"""The page in a real browser: every task is clicked through, and wrong files too."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PATIENCE = 240_000  # ms, for what a busy machine compiles

pytest.importorskip("gradio", reason="the page needs gradio: ./launch/setup.sh --app")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright works the browser: ./launch/setup.sh --dev")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def address(model_dir, tmp_path_factory):
    """The address of a page of the tiny model, served by the command."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log"
    words = [sys.executable, "-m", "mmgen_jax.app", f"--workdir={model_dir}", f"--port={port}"]
    with log.open("w") as file:
        served = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=file, stderr=file)
    try:
        for _ in range(240):
            assert served.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/"
        assert "/mmgen_jax/" not in log.read_text()  # no traceback of ours; the library writes one of an attack
    finally:
        served.terminate()
        served.wait(60)


@pytest.fixture(scope="module")
def page(address):
    """The page in a browser, which must ask nobody else for anything and log no error."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
        page.set_default_timeout(PATIENCE)
        elsewhere, errors = [], []
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or elsewhere.append(r.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#painter-mask canvas")
        set_number(page, "steps", 2)
        yield page
        assert (elsewhere, errors) == ([], [])
        browser.close()


def set_number(page, name, value):
    field = page.locator(f"#{name} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def set_role(page, m, role):
    page.locator(f"#role-{m} input[value={role}]").check()


def stroke(page, m, brush=None, layer="picture"):
    """Paints a stroke over a painter, with the brush of a number or as it is."""
    if brush is not None:
        page.locator(f"#painter-{m} [data-colour]").nth(brush).click()
    page.locator(f"#painter-{m} [data-layer]").select_option(layer)
    canvas = page.locator(f"#painter-{m} canvas").nth(1)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()


def upload(page, m, data, name="picture.png"):
    page.locator(f"#upload-{m}").locator("xpath=..").locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": data}
    )


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def make(page, line):
    """Presses Make, and waits for a line on the page, which is emptied as the one before may be like it."""
    page.evaluate("document.querySelector('#line .line').textContent = ''")
    page.click("#make")
    sync_api.expect(page.locator("#line")).to_contain_text(re.compile(line), timeout=PATIENCE)
    sync_api.expect(page.locator("#make")).to_be_enabled(timeout=PATIENCE)


def labels(page):
    return page.locator("#looks figcaption").all_inner_texts()


def downloaded(page):
    with page.expect_download() as download:
        page.click("#download")
    return zipfile.ZipFile(download.value.path())


def reset(page):
    for m in ("rgb", "depth", "normal", "mask"):
        page.locator(f"#painter-{m} [data-layer]").select_option("picture")
        page.locator(f"#painter-{m} [data-clear]").click()
        set_role(page, m, "generate")


def test_from_nothing_and_of_a_class(page):
    reset(page)
    make(page, "no class; seed 0")
    assert labels(page) == ["rgb", "depth", "normal", "mask"]
    page.locator("#class input").click()
    page.get_by_role("option", name="torus").click()
    make(page, "torus; seed 0")
    assert "class_id=torus" in page.inner_text("#command") and 'class_id="torus"' in page.inner_text("#snippet")
    with downloaded(page) as archive:
        assert {"again.sh", "again.py", "scene.glb", "samples/rgb_000.png"} <= set(archive.namelist())
    sync_api.expect(page.locator("#scene canvas")).to_be_visible(timeout=PATIENCE)
    sync_api.expect(page.locator("#slider img").first).to_be_visible(timeout=PATIENCE)


def test_depth_is_painted_and_the_rest_is_made(page):
    reset(page)
    stroke(page, "depth", brush=6)
    sync_api.expect(page.locator("#role-depth input[value=given]")).to_be_checked()
    make(page, "given depth")
    assert labels(page) == ["rgb", "depth (given)", "normal", "mask"]
    with downloaded(page) as archive:
        levels = np.unique(np.asarray(Image.open(archive.open("given/depth.png"))))
    assert levels.tolist() == [0, 191]  # the ground and the stroke, and nothing between them


def test_regions_are_painted_and_one_modality_is_ignored(page):
    reset(page)
    stroke(page, "mask", brush=2)
    set_role(page, "normal", "ignore")
    make(page, "given mask")
    assert labels(page) == ["rgb", "depth", "mask (given)"]
    assert "wanted=rgb+depth" in page.inner_text("#command")


def test_a_photo_is_uploaded_and_a_region_is_made_anew(page, rng):
    reset(page)
    upload(page, "rgb", png(rng.integers(0, 255, (70, 90, 3), np.uint8)))
    sync_api.expect(page.locator("#role-rgb input[value=given]")).to_be_checked(timeout=PATIENCE)
    page.wait_for_selector("#painter-rgb [data-state=painted]")  # a picture that arrives ends the region before it
    stroke(page, "rgb", layer="region")
    make(page, "part of rgb|rgb")
    with downloaded(page) as archive:
        kept = np.asarray(Image.open(archive.open("keep/rgb.png")))
    assert set(np.unique(kept)) == {0, 255}


def test_draws_tell_how_uncertain_they_are(page):
    reset(page)
    set_number(page, "draws", 3)
    make(page, "3 draws")
    assert "depth uncertainty" in labels(page)
    set_number(page, "draws", 1)


def test_bad_input_is_one_line_and_the_page_goes_on(page):
    reset(page)
    make(page, "seed 0")
    before = labels(page)
    upload(page, "depth", b"\x80\x04cos\nsystem\n(S'ls'\ntR.")
    sync_api.expect(page.locator("#said-depth [role=alert]")).to_contain_text("file of depth cannot be read")
    upload(page, "depth", png(np.full((40, 40, 3), (200, 20, 20), np.uint8)))
    sync_api.expect(page.locator("#said-depth [role=alert]")).to_contain_text("file of depth has colours")
    set_role(page, "depth", "given")
    make(page, "depth is given, but has no picture")
    for m in ("rgb", "depth", "normal", "mask"):
        set_role(page, m, "ignore")
    make(page, "nothing is to be made")
    set_number(page, "steps", 1000)  # which the library takes back to the limit, or refuses
    make(page, "nothing is to be made|This was not made")
    set_number(page, "steps", 2)
    assert labels(page) == before
    reset(page)
    make(page, "seed 0")


def test_a_request_is_stopped(page):
    reset(page)
    set_number(page, "draws", 16)
    set_number(page, "steps", 90)
    page.click("#make")
    sync_api.expect(page.locator("#stop")).to_be_enabled(timeout=PATIENCE)
    page.click("#stop")
    sync_api.expect(page.locator("#line")).to_contain_text("Stopped.", timeout=PATIENCE)
    sync_api.expect(page.locator("#make")).to_be_enabled(timeout=PATIENCE)
    set_number(page, "draws", 1)
    set_number(page, "steps", 2)
    make(page, "seed 0")


def colours(locator) -> int:
    """Number of different colours that an element shows."""
    return len(
        np.unique(np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).reshape(-1, 3), axis=0)
    )


def choose(page, name, option):
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 800)])
def test_all_settings_are_used_on_other_screens(page, address, scheme, width):
    """Nothing is wider than the screen, the ground is of the scheme, and the scene is drawn."""
    context = page.context.browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    other = context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    other.wait_for_selector("#painter-mask canvas")
    ground = other.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 100) == (scheme == "dark")
    for name, value in (("steps", 3), ("guidance", 2), ("seed", 7), ("strength-depth", 0.5)):
        set_number(other, name, value)
    choose(other, "solver", "heun")
    choose(other, "class", "torus")
    stroke(other, "depth", brush=3)
    other.locator("#painter-depth [data-undo]").click()
    stroke(other, "depth", brush=3)
    make(other, "seed 7")
    command = other.inner_text("#command")
    for words in ("solver=heun", "steps=3", "guidance=2", "seed=7", "strength.depth=0.5", "class_id=torus"):
        assert words in command
    sync_api.expect(other.locator("#scene canvas")).to_be_visible(timeout=PATIENCE)
    for _ in range(60):
        if colours(other.locator("#scene canvas")) > 10:
            break
        other.wait_for_timeout(1000)
    else:
        raise AssertionError("the scene is empty")
    make(other, "seed 7")
    choose(other, "left", "rgb (last)")
    sync_api.expect(other.locator("#slider img").first).to_be_visible(timeout=PATIENCE)
    assert other.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def asked(address, path, body=None):
    request = urllib.request.Request(address + path, body and json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    return urllib.request.urlopen(request, timeout=60).read().decode()


def test_no_file_of_the_machine_is_read_or_served(address):
    for path in ("gradio_api/file=/etc/passwd", "gradio_api/file=../../../../etc/passwd"):
        with pytest.raises(OSError, match="40[34]"):
            asked(address, path)
    config = json.loads(asked(address, "config"))
    [button] = (x["id"] for x in config["components"] if x["props"].get("elem_id") == "upload-rgb")
    [upload] = (x["id"] for x in config["dependencies"] if x["inputs"] == [button])
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    asked(address, "gradio_api/queue/join", {"data": [file], "fn_index": upload, "session_hash": "other"})
    told = asked(address, "gradio_api/queue/data?session_hash=other")
    assert '"success":false' in told and "root:" not in told and "data:image" not in told
