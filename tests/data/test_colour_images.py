"""Grey scans that were saved in colour, after lossy compression and with marks, beside photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw

from monai_zsad.data import ScanReader
from monai_zsad.data.formats import check_image
from monai_zsad.data.formats.colour import as_grey
from monai_zsad.data.scan import ReadOptions
from monai_zsad.errors import InputError
from tests.data.odd_inputs.colour_images import in_colour, skin, slightly_coloured, tissue


def example(name: str) -> Image.Image:
    """A photograph that comes with scikit-image."""
    file = Path(skimage.__file__).parent / "data" / name
    if not file.is_file():
        pytest.skip(f"this scikit-image comes without {name}")
    return Image.open(file).convert("RGB")


def compressed(pixels: np.ndarray, quality: int, subsampling: int = 2) -> Image.Image:
    """RGB or grey, as a JPEG of this quality gives it back; subsampling 0 is 4:4:4, 2 is 4:2:0."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(io.BytesIO(stream.getvalue()))


def head(seed: int = 0) -> np.ndarray:
    """A larger slice (240, 320)."""
    return np.kron(tissue(np.random.default_rng(seed)), np.ones((4, 4), dtype=np.uint8))


def codes(image: Image.Image) -> list[str] | None:
    found = as_grey(image)
    return None if found is None else [repair.code for repair in found[1]]


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
def test_compressed_grey_has_the_brightness_of_a_grey_jpeg(quality, subsampling):
    grey = head()
    noise = np.random.default_rng(1).normal(0, 4, (*grey.shape, 3))
    noise -= (noise @ np.array([0.299, 0.587, 0.114]))[..., None]
    coloured = np.clip(in_colour(grey) + noise + [4, 0, -4], 0, 255).astype(np.uint8)
    found = as_grey(compressed(coloured, quality, subsampling))
    assert found is not None
    values, repairs = found
    assert [repair.code for repair in repairs] == ["nearly-grey"]
    expected = np.asarray(compressed(grey, quality)).astype(float)
    assert np.abs(values - expected).mean() < 2.5


@pytest.mark.parametrize("colours", [16, 64, 256])
def test_a_palette_of_a_grey_scan(colours):
    image = Image.fromarray(slightly_coloured(head())).convert("P", palette=Image.Palette.ADAPTIVE, colors=colours)
    assert codes(image.convert("RGB")) == ["nearly-grey"]


@pytest.mark.parametrize("quality", [30, 95])
def test_a_tint_of_film_is_no_colour(quality):
    film = np.clip(in_colour(head()) * [0.88, 0.95, 1.0] + [0, 2, 10], 0, 255).astype(np.uint8)
    assert codes(compressed(film, quality)) == ["nearly-grey"]


@pytest.mark.parametrize("quality", [None, 50])
def test_marks_in_colour_are_named(quality):
    image = Image.fromarray(in_colour(head()))
    draw = ImageDraw.Draw(image)
    draw.line((0, 120, 320, 120), fill=(0, 255, 0))
    draw.line((60, 60, 130, 110), fill=(255, 0, 0), width=4)
    draw.text((5, 5), "R 12.3 mm", fill=(255, 255, 0))
    assert codes(compressed(np.asarray(image), quality) if quality else image) == ["coloured-marks"]


def test_a_channel_that_is_equal_needs_no_warning():
    assert codes(Image.fromarray(in_colour(head()))) == []


@pytest.mark.parametrize("name", ["retina.jpg", "ihc.png", "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"])
def test_photographs_are_colour_in_every_form(name):
    """An eye, a stained section, a face, fur: whole, small, compressed, in few colours, and parts of them."""
    whole = example(name)
    width, height = whole.size
    forms = {
        "whole": whole,
        "small": whole.resize((96, 96)),
        "compressed": compressed(np.asarray(whole), 30).convert("RGB"),
        "16 colours": whole.convert("P", palette=Image.Palette.ADAPTIVE, colors=16).convert("RGB"),
        "256 colours": whole.convert("P", palette=Image.Palette.ADAPTIVE).convert("RGB"),
        "part": whole.crop((width // 3, height // 3, 2 * width // 3, 2 * height // 3)),
    }
    assert {form: codes(image) for form, image in forms.items()} == dict.fromkeys(forms)


def test_skin_of_a_face_is_colour():
    face = example("astronaut.png")
    assert codes(face.crop((200, 120, 240, 150))) is None
    assert codes(Image.fromarray(skin())) is None


def test_the_check_says_what_reading_says(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(skin()).save(file)
    with pytest.raises(InputError) as caught:
        check_image(file, ReadOptions())
    assert caught.value.code == "colour"
    assert [repair.code for repair in check_image(file, ReadOptions(colour=True))] == ["no-position"]
    values, meta = ScanReader(colour=True).get_data([file])
    assert values.shape == (3, 80, 60, 1)
    assert values.dtype == np.float32
    assert (meta["colour"], meta["original_channel_dim"]) == ("RGB", 0)
    assert meta["spatial_shape"].tolist() == [80, 60, 1]
    np.testing.assert_array_equal(values[..., 0], skin().transpose(2, 1, 0))
