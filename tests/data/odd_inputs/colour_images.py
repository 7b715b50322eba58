"""2D images that were saved in colour: grey scans with small differences, tints or marks, and photographs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.odd_inputs.catalogue import Odd, Truth, kind
from tests.data.odd_inputs.images import picture_truth

ROWS, COLUMNS = 60, 80
# Differences of red, green and blue that leave the brightness as it is: 0.299 red + 0.587 green + 0.114 blue.
NO_CHANGE = np.array([(0, 0, 0), (1, 0, -3), (-1, 0, 3), (2, 0, -5), (-2, 0, 5), (-4, 2, 0), (4, -2, 0)])


def tissue(rng: np.random.Generator | None = None) -> np.ndarray:
    """A grey slice (rows, columns), uint8: a bright head with texture before black."""
    rng = rng or np.random.default_rng(8)
    row, column = np.mgrid[:ROWS, :COLUMNS]
    radius = np.hypot((row - 30) / 26, (column - 40) / 34)
    inside = 90 + 60 * np.cos(column / 5) * np.sin(row / 7) + rng.normal(0, 12, radius.shape)
    return np.where(radius < 1, np.clip(inside, 20, 240), 0).astype(np.uint8)


def skin() -> np.ndarray:
    """A photograph (rows, columns, 3), uint8: pink skin with a brown lesion that has a blue and a red part."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    shade = np.random.default_rng(9).normal(0, 4, (ROWS, COLUMNS, 3))
    pixels = np.array([214.0, 162, 148]) + np.array([12.0, 2, -8]) * np.sin(row / 9)[..., None] + shade
    for y, x, size, colour in ((28, 46, 15, (118, 72, 50)), (24, 42, 6, (72, 84, 118)), (34, 52, 5, (168, 58, 54))):
        pixels[np.hypot(row - y, column - x) < size] = np.array(colour) + shade[0, 0]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def in_colour(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Luma of ITU-R 601, rounded: (rows, columns, 3) to (rows, columns)."""
    return np.floor(pixels @ np.array([0.299, 0.587, 0.114]) + 0.5)


def slightly_coloured(grey: np.ndarray) -> np.ndarray:
    """The slice in RGB, with differences between the channels of up to 7 levels, of the same brightness."""
    changes = NO_CHANGE[np.random.default_rng(3).integers(len(NO_CHANGE), size=grey.shape)]
    changes[(grey < 5) | (grey > 250)] = 0
    return (in_colour(grey) + changes).astype(np.uint8)


def colour_truth(pixels: np.ndarray) -> Truth:
    places, _ = picture_truth(pixels[..., 0])
    return places, np.stack([picture_truth(pixels[..., channel])[1] for channel in range(3)])


def saved(folder: Path, pixels: np.ndarray, mode: str = "RGB") -> Path:
    Image.fromarray(pixels, mode).save(folder / "a.png")
    return folder / "a.png"


@kind("repaired nearly-grey no-position")
def png_with_chroma_noise(folder: Path) -> Odd:
    grey = tissue()
    return Odd(saved(folder, slightly_coloured(grey)), [picture_truth(grey)])


@kind("repaired nearly-grey no-position")
def palette_png_with_a_small_cast(folder: Path) -> Odd:
    grey = tissue()
    changed = np.where((grey > 5)[..., None], in_colour(grey) + NO_CHANGE[1], in_colour(grey)).astype(np.uint8)
    colours, index = np.unique(changed.reshape(-1, 3), axis=0, return_inverse=True)
    image = Image.fromarray(index.reshape(grey.shape).astype(np.uint8), "P")
    image.putpalette(colours.ravel().tolist())
    image.save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(grey)])


@kind("repaired no-position")
def palette_png_of_grey(folder: Path) -> Odd:
    grey = tissue()
    image = Image.fromarray(255 - grey, "P")
    image.putpalette(np.repeat(np.arange(255, -1, -1), 3).tolist())
    image.save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(grey)])


@kind("repaired nearly-grey no-position")
def png_of_tinted_film(folder: Path) -> Odd:
    pixels = np.clip(in_colour(tissue()) * [0.88, 0.95, 1.0] + [0, 2, 10], 0, 255).astype(np.uint8)
    return Odd(saved(folder, pixels), [picture_truth(brightness(pixels))])


@kind("repaired nearly-grey no-position")
def png_in_sepia(folder: Path) -> Odd:
    # Red 1.35, green 1.2 and blue 0.94 times the grey value, as the usual filter gives.
    pixels = np.clip(in_colour(tissue()) * [1.351, 1.203, 0.937], 0, 255).astype(np.uint8)
    return Odd(saved(folder, pixels), [picture_truth(brightness(pixels))])


@kind("repaired coloured-marks no-position")
def png_with_a_red_arrow_and_yellow_text(folder: Path) -> Odd:
    pixels = in_colour(tissue())
    pixels[20:23, 10:30] = (255, 0, 0)
    pixels[2:6, 2:14:2] = (255, 255, 0)
    return Odd(saved(folder, pixels), [picture_truth(brightness(pixels))])


@kind("repaired transparent-border no-position")
def png_with_a_transparent_border(folder: Path) -> Odd:
    """The hidden pixels are bright, and the edge of the head is smoothed."""
    grey = tissue()
    alpha = np.where(grey > 0, 255, 0).astype(np.uint8)
    alpha[30, 6] = 128
    visible = np.where(alpha == 0, 0, np.where(alpha == 128, grey.astype(float) * 128 / 255, grey))
    hidden = np.where(alpha == 0, 200, grey).astype(np.uint8)
    file = saved(folder, np.dstack([hidden, hidden, hidden, alpha]), "RGBA")
    return Odd(file, [picture_truth(np.round(visible))])


@kind("refused transparent")
def png_with_a_transparent_hole(folder: Path) -> Odd:
    grey = tissue()
    alpha = np.full(grey.shape, 255, dtype=np.uint8)
    alpha[25:35, 35:45] = 0
    return Odd(saved(folder, np.dstack([grey, alpha]), "LA"))


@kind("repaired no-position")
def png_with_an_opaque_alpha(folder: Path) -> Odd:
    grey = tissue()
    return Odd(saved(folder, np.dstack([grey, np.full_like(grey, 254)]), "LA"), [picture_truth(grey)])


@kind("repaired colour-converted no-position")
def jpeg_in_print_colours(folder: Path) -> Odd:
    black = 255 - tissue()
    Image.fromarray(np.dstack([np.zeros((ROWS, COLUMNS, 3), np.uint8), black]), "CMYK").save(folder / "a.jpg")
    decoded = np.asarray(Image.open(folder / "a.jpg"))[..., 3]
    return Odd(folder / "a.jpg", [picture_truth(255.0 - decoded)])


@kind("repaired colour-converted no-position")
def png_of_16_bits_per_channel(folder: Path) -> Odd:
    grey = tissue()
    deep = in_colour(grey.astype(np.uint16) * 256 + 77).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", COLUMNS, ROWS, 16, 2, 0, 0, 0)
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    (folder / "a.png").write_bytes(content)
    return Odd(folder / "a.png", [picture_truth(grey)])


@kind("repaired further-pictures no-position")
def jpeg_with_a_second_picture(folder: Path) -> Odd:
    first, second = (Image.fromarray(tissue(np.random.default_rng(seed))) for seed in (1, 2))
    first.save(folder / "a.jpg", "MPO", save_all=True, append_images=[second], quality=90)
    first.save(folder / "alone.jpeg", quality=90)
    truth = np.asarray(Image.open(folder / "alone.jpeg"))
    return Odd([folder / "a.jpg"], [picture_truth(truth)])


@kind("repaired no-position")
def photograph(folder: Path) -> Odd:
    return Odd(saved(folder, skin()), [colour_truth(skin())], {"colour": True})


@kind("repaired no-position")
def photograph_stored_lying(folder: Path) -> Odd:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(skin()).save(folder / "a.jpg", exif=exif)
    truth = np.rot90(np.asarray(Image.open(folder / "a.jpg")), -1)
    return Odd(folder / "a.jpg", [colour_truth(truth)], {"colour": True})


@kind("repaired no-position")
def photograph_with_a_palette(folder: Path) -> Odd:
    image = Image.fromarray(skin()).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    image.save(folder / "a.png")
    return Odd(folder / "a.png", [colour_truth(np.asarray(image.convert("RGB")))], {"colour": True})


@kind("refused colour")
def photograph_where_grey_is_needed(folder: Path) -> Odd:
    Image.fromarray(skin()).save(folder / "a.jpg", quality=60)
    return Odd(folder / "a.jpg")


@kind("repaired no-position")
def photograph_and_scan_in_one_folder(folder: Path) -> Odd:
    grey = tissue()
    Image.fromarray(skin()).save(folder / "a.png")
    Image.fromarray(grey).save(folder / "b.png")
    return Odd(folder, [colour_truth(skin()), picture_truth(grey)], {"colour": True})
