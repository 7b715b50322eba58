"""``info`` says of each input whether it is usable, left out or refused, with its code, and sets the exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from monai_zsad.cli.main import app
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.samples import write_nifti, write_series


def info(*words: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["info", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output.splitlines()


def picture(path: Path, seed: int, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (9, 10, 3) if colour else (9, 10)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape).astype("u1")).save(path)


def test_usable_left_out_and_refused(tmp_path: Path):
    write_nifti(tmp_path / "anna.nii.gz")
    assert info(tmp_path) == (0, [f"{tmp_path / 'anna.nii.gz'}: 8 x 9 x 5, 1 x 1.5 x 3 mm", "1 of 1 can be screened"])
    write_nifti(tmp_path / "flat.nii", (8, 9))
    picture(tmp_path / "shot.png", 0)
    code, lines = info(tmp_path)
    assert (code, lines[-1]) == (1, "1 of 3 can be screened, 1 refused, 1 left out")
    refused = lines[lines.index(next(line for line in lines if "flat.nii" in line)) + 1]
    assert refused.startswith("   refused (not-3d): is 2-dimensional (8 x 9); give one 3D volume")
    assert "   left out (image-beside): image beside scans" in lines


def test_nothing_that_can_be_screened(tmp_path: Path):
    write_series(tmp_path, 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    code, lines = info(tmp_path)
    assert (code, lines[-1]) == (1, "0 of 1 can be screened, 1 left out")


def test_options_of_reading(tmp_path: Path):
    write_series(tmp_path / "gap", 8)[3].unlink()
    assert any("refused (missing-slices)" in line for line in info(tmp_path / "gap")[1])
    assert info(tmp_path / "gap", "--repair", "missing-slices")[0] == 0
    write_nifti(tmp_path / "time.nii", (8, 9, 5, 2))
    assert info(tmp_path / "time.nii")[0] == 1
    assert info(tmp_path / "time.nii", "--volume", 1)[0] == 0
    picture(tmp_path / "skin.png", 0, colour=True)
    assert info(tmp_path / "skin.png")[0] == 1
    assert info(tmp_path / "skin.png", "--colour")[0] == 0
    with pytest.raises(ConfigurationError, match="did you mean missing-slices"):
        info(tmp_path, "--repair", "missing-slice")


def test_many_pictures_are_counted(tmp_path: Path):
    for number in range(9):
        picture(tmp_path / "grey" / f"{number}.png", number)
        picture(tmp_path / "skin" / f"{number}.png", number, colour=True)
    code, lines = info(tmp_path)
    assert code == 1
    assert lines[0] == f"{tmp_path / 'grey' / '*.png'}: 9 files"
    assert f"{tmp_path / 'skin' / '*.png'}: 9 files" in lines
    assert sum("refused (colour)" in line for line in lines) == 1
    assert lines[-1] == "9 of 18 can be screened, 9 refused"


def test_many_inputs_are_counted_across_folders(tmp_path: Path):
    for number in range(30):
        picture(tmp_path / f"patient{number}" / "skin.png", number, colour=number % 3 > 0)
    code, lines = info(tmp_path)
    assert code == 1
    assert lines[0].startswith(f"10 .png files in 10 folders, such as {tmp_path / 'patient0' / 'skin.png'}")
    assert any(line.startswith("20 .png files in 20 folders") for line in lines)
    assert sum("refused (colour)" in line for line in lines) == 1
    assert lines[-1] == "10 of 30 can be screened, 20 refused; --all lists each"
    assert len(lines) == 5


def test_all_lists_each_input_in_one_line(tmp_path: Path):
    for number in range(14):
        write_nifti(tmp_path / f"{number:02}.nii.gz")
    write_series(tmp_path / "series", 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    code, lines = info(tmp_path)
    assert lines[0].startswith(f"14 .nii.gz files, such as {tmp_path / '00.nii.gz'}: 8 x 9 x 5")
    # A few others are shown as before.
    assert any(line.startswith(f"{tmp_path / 'series'}: ") for line in lines)
    code, lines = info(tmp_path, "--all")
    assert (code, len(lines), lines[-1]) == (0, 16, "14 of 15 can be screened, 1 left out")
    assert lines[3] == f"{tmp_path / '03.nii.gz'}: 8 x 9 x 5, 1 x 1.5 x 3 mm"
    assert "left out" in lines[14]


def test_a_folder_without_scans_or_results_is_said_so(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no scan; give a volume file"):
        info(tmp_path)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "give the output folder of `screen`" in str(done.exception)
    assert not (tmp_path / "index.html").exists()
