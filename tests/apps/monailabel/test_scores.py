"""Scores that several processes keep, and the order that follows from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.apps.monailabel.scores import Score, ScoreStore, image_stamp, next_image

WRITER = """
import sys
from pathlib import Path
from monai_zsad.apps.monailabel.scores import Score, ScoreStore
for number in range(20):
    ScoreStore(Path(sys.argv[1])).put(f"{sys.argv[2]}{number}", "key", Score(number / 20))
"""


def test_processes_do_not_lose_each_other_s_scores(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "scores.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), name]) for name in "ab"]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    images = [(f"{name}{number}", "key") for name in "ab" for number in range(20)]
    assert len(ScoreStore(file).among(images)) == 40


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
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


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.floats(0, 1)), max_size=8),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_next_sample_walks_from_the_most_suspicious_to_the_unknown(known: dict, scored: set) -> None:
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
