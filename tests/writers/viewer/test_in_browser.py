"""The viewer in a real Chromium: pixels of the canvas, the crosshair, the controls; nothing from the network."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_zsad.writers.pages.viewer import viewer_page
from tests.browser import Opened, Opener
from tests.writers.viewer.phantoms import AFFINES, LESION, head

pytestmark = pytest.mark.slow

_READY = "#viewer[data-ready]"


def open_head(open_page: Opener, folder: Path, affine=None, body: str = "", **options: Any) -> Opened:
    """The viewer of a head, with further elements on the page; it waits until the viewer is ready."""
    keywords = {name: options.pop(name) for name in ("tissue", "air", "shape") if name in options}
    found = head(affine, **keywords)
    centre = ",".join(map(repr, found.centre))
    body = f'{body}<p id="away" data-ras="{off(affine)}">away</p><button id="there" data-ras="{centre}">there</button>'
    file = folder / "page.html"
    file.write_text(viewer_page(*found[:4], modality=None).replace("</main>", f"{body}</main>"), encoding="utf-8")
    opened = open_page(file, **options)
    opened.page.wait_for_selector(_READY, timeout=120_000)
    return opened


def off(affine) -> str:
    """A point of tissue away from the lesion."""
    matrix = np.eye(4) if affine is None else affine
    return ",".join(repr(float(value)) for value in (matrix @ [30, 24, 14, 1])[:3])


def settle(opened: Opened) -> None:
    """Wait until the canvas shows the last change."""
    opened.page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
    )


def until(opened: Opened, condition: str) -> None:
    """Wait for a condition. The policy of the page refuses playwright's own way."""
    for _ in range(600):
        if opened.page.evaluate(condition):
            return
        opened.page.wait_for_timeout(50)
    raise AssertionError(f"not within 30 seconds: {condition}")


def pixels(opened: Opened) -> np.ndarray:
    """(rows, columns, 3) of the canvas."""
    settle(opened)
    return np.asarray(Image.open(io.BytesIO(opened.page.locator(".viewer-box").screenshot())).convert("RGB")).astype(
        int
    )


def crosshair(image: np.ndarray) -> tuple[float, float]:
    """Column and row of the blue lines, in an image of one plane."""
    red, green, blue = np.moveaxis(image, -1, 0)
    lines = (blue > 150) & (blue > red + 60) & (green > red + 20)
    across, down = (lines.sum(axis=axis) for axis in (0, 1))
    # The lines have the width of a voxel.
    return tuple(float(np.flatnonzero(line > 0.8 * line.max()).mean()) for line in (across, down))  # type: ignore[return-value]


def lesion(image: np.ndarray) -> tuple[float, float]:
    """Centre (column, row) of the yellow of the map's highest values."""
    red, _, blue = np.moveaxis(image, -1, 0)
    yellow = np.argwhere((red > 200) & (blue < red - 30))
    assert len(yellow) > 30, "the lesion is not shown"
    rows, columns = (yellow.min(axis=0) + yellow.max(axis=0)) / 2
    return float(columns), float(rows)


def position(opened: Opened) -> list[float]:
    """The readout, mm in RAS."""
    text = opened.page.locator('[name="position"]').inner_text()
    return [float(part) for part in text.split("RAS ")[1].split(")")[0].split(",")]


def set_slider(opened: Opened, name: str, value: float) -> None:
    opened.page.locator(f'[name="{name}"]').evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


@pytest.mark.parametrize("name", AFFINES)
def test_the_crosshair_meets_the_lesion_in_every_plane(open_page, tmp_path, name):
    affine = AFFINES[name]
    opened = open_head(open_page, tmp_path, affine)
    centre = (affine @ [*LESION, 1])[:3]
    opened.page.locator("#away").click()
    assert np.linalg.norm(np.array(position(opened)) - centre) > 15
    for view in ("1", "2", "3"):
        opened.page.locator(f'[data-view="{view}"]').click()
        opened.page.locator("#there").click()
        assert np.abs(np.array(position(opened)) - centre).max() < 0.11
        image = pixels(opened)
        column, row = lesion(image)
        across, down = crosshair(image)
        # A voxel is 7 to 13 pixels long.
        assert abs(column - across) < 3, f"{column=} {across=}"
        assert abs(row - down) < 3, f"{row=} {down=}"
    assert not opened.errors
    assert not opened.requests


def test_the_patient_s_right_is_on_the_left(open_page, tmp_path):
    # In RAS the lesion of the phantom lies to the left of the middle, anterior and superior; in LPS to the right.
    for name, is_left in (("ras", False), ("lps", True)):
        opened = open_head(open_page, tmp_path, AFFINES[name])
        opened.page.locator('[data-view="1"]').click()
        image = pixels(opened)
        column, _ = lesion(image)
        letters = opened.page.locator(".viewer-box span").evaluate_all(
            "(all) => all.map((one) => [one.textContent, one.offsetLeft, one.offsetTop])"
        )
        places = {letter: (left, top) for letter, left, top in letters}
        middle = (places["R"][0] + places["L"][0]) / 2
        assert places["R"][0] < places["L"][0]
        assert places["A"][1] < places["P"][1]
        # In its file x runs from the right to the left of RAS; the lesion lies at small x.
        assert (column < middle) is is_left, (name, column, middle)


def test_a_click_moves_the_crosshair_and_tells_the_page(open_page, tmp_path):
    body = (
        '<p id="bad" data-ras="1,2">x</p>'
        '<script>document.addEventListener("zsad:crosshair", (event) => { window.last = event.detail; })</script>'
    )
    opened = open_head(open_page, tmp_path, AFFINES["oblique"], body)
    opened.page.locator("#away").focus()
    opened.page.keyboard.press("Enter")
    away = opened.page.evaluate("window.last")
    assert away["anomaly"] < 0.2
    before = position(opened)
    opened.page.locator("#bad").click()
    assert position(opened) == before
    opened.page.locator("#there").click()
    there = opened.page.evaluate("window.last")
    wanted = (AFFINES["oblique"] @ [*LESION, 1])[:3]
    assert np.abs(np.array(there["ras"]) - wanted).max() < 0.01
    assert there["anomaly"] == pytest.approx(1.0, abs=0.01)
    assert there["scan"] == pytest.approx(600, rel=0.02)
    assert not opened.errors


def test_sliders_and_switches_change_the_image(open_page, tmp_path):
    opened = open_head(open_page, tmp_path, AFFINES["ras"])
    opened.page.locator('[data-view="1"]').click()
    opened.page.locator('[name="outlines"]').uncheck()
    first = pixels(opened)

    def coloured(image: np.ndarray) -> int:
        return int((image[..., 0] - image[..., 2] > 25).sum())

    assert coloured(first) > 30
    set_slider(opened, "opacity", 0.3)
    paler = pixels(opened)
    assert np.abs(paler - first).sum() > 0
    opened.page.locator('[name="map"]').uncheck()
    assert coloured(pixels(opened)) == 0
    opened.page.locator('[name="map"]').check()
    set_slider(opened, "opacity", 0.75)
    assert np.abs(pixels(opened) - first).max() < 8
    # Only the lesion is above 0.9.
    set_slider(opened, "threshold", 0.9)
    above = pixels(opened)
    assert (np.abs(above - first).max(axis=-1) > 3).any()
    column, row = (round(value) for value in lesion(first))
    assert np.abs(above[row + 3, column + 3] - first[row + 3, column + 3]).max() < 8
    opened.page.locator('[name="outlines"]').check()
    assert np.abs(pixels(opened) - above).max() > 60
    dark = pixels(opened)
    set_slider(opened, "white", 5000)
    set_slider(opened, "black", 500)
    assert pixels(opened).sum() < dark.sum()
    assert not opened.errors


def test_keys_scroll_and_leave_the_viewer(open_page, tmp_path):
    opened = open_head(open_page, tmp_path, AFFINES["ras"], '<p style="height: 3000px"></p>')
    opened.page.locator('[data-view="1"]').click()
    opened.page.locator("#there").click()
    opened.page.evaluate("scrollTo(0, 0)")
    start = position(opened)
    opened.page.locator("canvas").focus()
    press = opened.page.keyboard.press
    press("ArrowUp")
    assert position(opened)[2] == pytest.approx(start[2] + 1.5, abs=0.11)
    press("PageDown")
    assert position(opened)[2] == pytest.approx(start[2] - 13.5, abs=0.11)
    press("ArrowRight")
    assert position(opened) == start
    press("End")
    assert position(opened)[2] > start[2] + 10
    press("3")
    assert opened.page.locator('[data-view="2"]').get_attribute("aria-pressed") == "true"
    press("m")
    assert not opened.page.locator('[name="map"]').is_checked()
    assert opened.page.evaluate("scrollY") == 0
    press("Escape")
    assert opened.page.evaluate("document.activeElement.tagName") == "BODY"
    left = position(opened)
    opened.page.evaluate(
        "addEventListener('keydown', (event) => { document.body.dataset.taken = event.defaultPrevented; })"
    )
    press("PageDown")
    # The browser scrolls the page then, sooner or later; what counts is that the viewer leaves the key to it.
    until(opened, "document.body.dataset.taken === 'false'")
    assert position(opened) == left


def test_the_wheel_scrolls_the_page_until_the_image_is_clicked(open_page, tmp_path):
    opened = open_head(open_page, tmp_path, AFFINES["ras"], '<p style="height: 3000px"></p>')
    opened.page.locator('[data-view="1"]').click()
    box = opened.page.locator(".viewer-box").bounding_box()
    assert box is not None
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    start = position(opened)
    opened.page.mouse.wheel(0, 100)
    until(opened, "scrollY > 0")
    assert opened.page.locator(".viewer-hint").is_visible()
    assert position(opened) == start
    opened.page.evaluate("scrollTo(0, 0)")
    opened.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    start = position(opened)
    opened.page.mouse.wheel(0, 100)
    until(opened, f"!document.querySelector('[name=position]').innerText.includes('{start[2]})')")
    assert opened.page.evaluate("scrollY") == 0


def test_a_ct_has_windows(open_page, tmp_path):
    opened = open_head(open_page, tmp_path, AFFINES["lps"], tissue=40.0, air=-1000.0)
    opened.page.locator('[name="map"]').uncheck()
    means = {}
    for name in ("brain", "bone", "lung"):
        opened.page.locator('[name="preset"]').select_option(name)
        means[name] = pixels(opened).mean()
    assert means["bone"] < means["brain"] < means["lung"]
    black = opened.page.locator('[name="black-value"]').inner_text()
    assert float(black) == pytest.approx(-1350, abs=1)
    opened.page.locator("#there").click()
    assert "scan 60 " in opened.page.locator('[name="position"]').inner_text().replace("\xa0", " ") + " "
    assert not opened.errors


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light"), (1920, "dark")])
def test_it_fits_the_window(open_page, tmp_path, width, scheme):
    opened = open_head(open_page, tmp_path, width=width, scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    lesion(pixels(opened))


def test_a_finger_scrolls_the_page(open_page, tmp_path):
    opened = open_head(open_page, tmp_path, width=390, has_touch=True, is_mobile=True)
    stopped = opened.page.locator("canvas").evaluate(
        """(canvas) => ["touchstart", "touchmove"].filter((name) =>
             !canvas.dispatchEvent(new TouchEvent(name, { bubbles: true, cancelable: true })))"""
    )
    assert stopped == []
    before = position(opened)
    opened.page.locator("canvas").tap(position={"x": 60, "y": 100})
    settle(opened)
    assert position(opened) != before


@pytest.mark.parametrize("flag", ["--disable-3d-apis", "--disable-javascript"])
def test_without_webgl_the_page_says_so(open_page, tmp_path, flag):
    found = head()
    file = tmp_path / "page.html"
    file.write_text(viewer_page(*found[:4]), encoding="utf-8")
    scripts = flag != "--disable-javascript"
    opened = open_page(file, flags=(flag,) if scripts else (), java_script_enabled=scripts)
    opened.page.wait_for_timeout(500)
    assert "needs" in opened.page.locator(".viewer-state").inner_text()
    assert not opened.page.locator("canvas").is_visible()
    assert not opened.errors


def test_the_policy_refuses_the_network(open_page, tmp_path):
    body = (
        '<img id="img" src="http://127.0.0.1:9123/x.png"><script>fetch("http://127.0.0.1:9123/x").catch(() => {});'
        'import("data:text/javascript,window.bad=1").catch(() => {})</script>'
    )
    opened = open_head(open_page, tmp_path, None, body)
    assert not opened.requests
    assert sum("Content Security Policy" in error for error in opened.errors) >= 2, json.dumps(opened.errors)
    assert opened.page.evaluate("window.bad") is None
