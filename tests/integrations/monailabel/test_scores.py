"""Scores that several processes keep, and the order that follows from them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.errors import InputError
from monai_zsad.integrations.monailabel.scores import ResultScores, Score, ScoreStore, image_stamp, next_image
from monai_zsad.writers import fingerprint
from monai_zsad.writers.run_tables import write_summary


def test_writers_do_not_lose_each_other_s_scores(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "scores.json"

    def write(name: str) -> None:
        # A store of its own, as in another process: what is shared is the file and its lock.
        store = ScoreStore(file)
        for number in range(10):
            store.put(f"{name}{number}", "key", Score(number / 10))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, "abc"))
    images = [(f"{name}{number}", "key") for name in "abc" for number in range(10)]
    assert len(ScoreStore(file).among(images)) == 30


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "scores.json")
    store.path.write_text("{")
    assert store.get("a", "key") is None
    store.put("a", "key", Score(None, "broken"))
    assert store.get("a", "key") == Score(None, "broken")
    assert store.get("a", "other") is None


def test_the_stamp_follows_what_is_in_a_file_or_folder(tmp_path: Path) -> None:
    file = tmp_path / "series" / "1.dcm"
    file.parent.mkdir()
    file.write_bytes(b"a")
    first = image_stamp(file), image_stamp(file.parent)
    assert first == (image_stamp(file), image_stamp(file.parent))
    file.write_bytes(b"ab")
    assert image_stamp(file) != first[0]
    assert image_stamp(file.parent) != first[1]
    assert image_stamp(None) == ""


def test_scores_of_an_earlier_run(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("anna", "ben", "broken", "new")}
    for name, file in files.items():
        file.write_text(name)
    with pytest.raises(InputError, match="output folder of an earlier run"):
        ResultScores(tmp_path)
    cases = [{"case": name, "status": "done", "volume_score": score} for name, score in (("anna", 0.2), ("ben", 0.3))]
    write_summary(tmp_path / "out", [*cases, {"case": "broken", "status": "failed", "reason": "is damaged"}])
    for name in ("anna", "ben"):
        (tmp_path / "out" / name).mkdir()
        made_by = {"fingerprint": {"input": fingerprint(source_files=str(files[name])).input}}
        (tmp_path / "out" / name / "manifest.json").write_text(json.dumps(made_by))

    scores = ResultScores(tmp_path / "out")
    found = scores.among(files.items())
    assert found == {"anna": Score(0.2), "ben": Score(0.3), "broken": Score(None, "is damaged")}
    chosen = next_image(files, found, lambda image: 0.0)
    assert chosen == ("ben", Score(0.3))

    files["ben"].write_text("another scan")
    assert "not the file that was screened" in scores.among(files.items())["ben"].reason
    # A series of a DICOMweb server has no file before it is retrieved.
    assert scores.among([("ben", None)]) == {"ben": Score(0.3)}


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.floats(0, 1)), max_size=8),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_next_sample_goes_from_the_most_suspicious_to_the_unknown(known: dict, scored: set) -> None:
    scores = {image: Score(value) for image, value in known.items() if image in scored}
    shown: dict[str, float] = {}
    walked = []
    for step in range(len(known)):
        found = next_image(known, scores, lambda image: shown.get(image, 0.0))
        assert found is not None
        shown[found[0]] = step + 1
        walked.append(found)
    assert sorted(image for image, _ in walked) == sorted(known)
    kinds = [1 if score is None else 2 if score.volume_score is None else 0 for _, score in walked]
    assert kinds == sorted(kinds)
    values = [score.volume_score for _, score in walked if score and score.volume_score is not None]
    assert values == sorted(values, reverse=True)
    assert next_image([], scores, lambda image: 0.0) is None
