"""An evaluation as a bundle runs it: cases that are done are left out, the others predicted and kept, then scored."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.transforms import MapTransform

from monai_zsad.data.benchmarks import get_benchmark
from monai_zsad.errors import ConfigurationError, InputError, OutputError
from monai_zsad.evaluation.cases import parse_region, picture_prediction, volume_prediction
from monai_zsad.evaluation.predictions import (
    FOLDER,
    Prediction,
    prediction_file,
    read_facts,
    save_prediction,
)
from monai_zsad.evaluation.protocols import VOLUMES, Protocol
from monai_zsad.flags import parse_flag
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.writers import atomic_path, clean_temporaries, content_hash, fingerprint

__all__ = ["EvaluationRun", "SavePredictiond", "files_hash", "read_run"]

SCHEMA = "monai-zsad/evaluation"
SCHEMA_VERSION = 1
RUN_FILE = "evaluation.json"
DTYPES = ("float32", "float16")

_logger = logging.getLogger(__name__)


class EvaluationRun:
    """One evaluation: what is predicted, how, and what of it is already there.

    MONAI's evaluator has no notion of a case that is done. Its ``ROCAUC`` and the like take figures while it runs, so
    that a run that was stopped has none, and another figure means another run. Here a case's prediction is a file; a
    second run of the same model and protocol makes those that are missing. ``evaluation.json`` says what the run is.

    Args:
        output_dir: of the run.
        benchmark: the set.
        protocol: how.
        records: all cases, of :func:`benchmark_cases`.
        network: of the bundle.
        settings: what else decides the predictions.
        prompts: sentences of each class, of :func:`class_prompts`.
        region: of volumes, see :func:`volume_prediction`.
        map_dtype: see :func:`save_prediction`.
        overwrite: start anew where the folder holds predictions of another model or protocol.
        rank: of this process; each takes its share of the cases.
        world_size: number of processes.

    Attributes:
        kept: cases whose predictions this process has written since :meth:`start`.

    Raises:
        ConfigurationError: for another ``map_dtype`` or ``region``.
        InputError: a case comes twice.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        benchmark: str,
        protocol: Protocol,
        records: Sequence[Mapping[str, Any]],
        network: ZeroShotNetwork,
        settings: Mapping[str, Any] | None = None,
        prompts: Mapping[str, PromptEnsemble] | None = None,
        region: str | float = "body",
        map_dtype: str = "float32",
        overwrite: bool | str = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if map_dtype not in DTYPES:
            raise ConfigurationError(f"map_dtype={map_dtype!r}: choose {' or '.join(DTYPES)}")
        self.output_dir = Path(output_dir).expanduser()
        self.benchmark = get_benchmark(benchmark)
        self.protocol = protocol
        self.records = {str(record["case"]): record for record in records}
        if len(self.records) < len(records):
            twice, _ = Counter(str(record["case"]) for record in records).most_common(1)[0]
            raise InputError(f"{twice} is listed twice in the set: list each image once")
        self.network = network
        self.prompts = dict(prompts or {})
        self.region = parse_region(region)
        self.map_dtype = map_dtype
        self.overwrite = parse_flag("overwrite", overwrite)
        self.rank = rank
        self.world_size = world_size
        self.settings = {**(settings or {}), "map_dtype": map_dtype}
        if self.volumes:
            self.settings["region"] = str(self.region)
        self.hash = ""
        self.kept: set[str] = set()
        self._left = 0

    @property
    def volumes(self) -> bool:
        """Whether cases are volumes."""
        return self.benchmark.name == VOLUMES

    def description(self) -> dict[str, Any]:
        """What the run is, in plain values: the content of ``evaluation.json``."""
        model = self.network.describe()
        if self.prompts:
            model |= {"prompts": {name: one.fingerprint() for name, one in self.prompts.items()}}
        what = {
            "benchmark": self.benchmark.name,
            "protocol": self.protocol.as_dict(),
            "model": model,
            "settings": self.settings,
        }
        cases = [{key: record[key] for key in ("case", "class_name", "label")} for record in self.records.values()]
        head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "run": content_hash(what)}
        return json.loads(json.dumps({**head, **what, "cases": cases}, sort_keys=True))

    def start(self, dataset: Any) -> list[str]:
        """Leave the cases of this process that are to be predicted in ``dataset.data``; once weights are loaded.

        Returns:
            Cases of the set that are done.

        Raises:
            OutputError: if the folder holds predictions of another model, protocol or file, and ``overwrite`` is false.
        """
        content = self.description()
        self.hash = str(content["run"])
        self._claim(content)
        done = [case for case, record in self.records.items() if self._is_done(case, record)]
        known = set(done)
        left = [record for case, record in self.records.items() if case not in known]
        if self.world_size > 1:
            # Each must have looked before the first writes, or shares would not fit together.
            torch.distributed.barrier()
        dataset.data = [dict(record) for record in left[self.rank :: self.world_size]]
        self.kept, self._left = set(), len(dataset.data)
        _logger.info("%d cases are done already, %d remain", len(done), len(left))
        return done

    def _claim(self, content: Mapping[str, Any]) -> None:
        """Write ``evaluation.json``, unless another run's stands there."""
        file = self.output_dir / RUN_FILE
        if file.is_file() and not self.overwrite:
            earlier = read_run(self.output_dir)
            if earlier["run"] != self.hash:
                raise OutputError(
                    f"{self.output_dir} holds predictions that were made otherwise ({_difference(earlier, content)}): "
                    "add --overwrite true to make them anew, or give another --output_dir"
                )
        elif not file.is_file() and not self.overwrite and any((self.output_dir / FOLDER).glob("*.npz")):
            raise OutputError(
                f"{self.output_dir} holds predictions, but no {RUN_FILE} that says of what: add --overwrite true to "
                "make them anew, or give another --output_dir"
            )
        if self.rank:
            return
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.output_dir}: cannot be made ({error.strerror}); give another --output_dir"
            ) from error
        if self.world_size == 1:
            clean_temporaries(self.output_dir)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _is_done(self, case: str, record: Mapping[str, Any]) -> bool:
        path = prediction_file(self.output_dir, case)
        if not path.is_file():
            return False
        try:
            facts = read_facts(path)
        except InputError as error:
            _logger.warning("%s", error)
            return False
        if facts["run"] != self.hash:
            # evaluation.json is this run's: what is of another one was to be overwritten.
            return False
        if facts["files"] != files_hash(record):
            if self.overwrite:
                return False
            raise OutputError(
                f"{path} was made of other files than {record['image']} and its mask now are: add --overwrite true to "
                "make it anew, or give another --output_dir"
            )
        return True

    def prediction(self, data: Mapping[Hashable, Any]) -> Prediction:
        """What is kept of a case."""
        record = self.records[str(data["case"])]
        if self.volumes:
            return volume_prediction(data, record, self.region)
        return picture_prediction(data, record, self.benchmark.has_masks)

    def keep(self, data: Mapping[Hashable, Any]) -> Prediction:
        """Write a case's prediction, and log how far the run is."""
        record = self.records[str(data["case"])]
        made = replace(self.prediction(data), run=self.hash, files=files_hash(record))
        save_prediction(made, self.output_dir, self.map_dtype)
        self.kept.add(made.case)
        count = len(self.kept)
        if self.volumes or count == self._left or count % max(1, self._left // 20) == 0:
            _logger.info("[%d/%d] %s: score %.3f", count, self._left, made.case, made.score)
        return made

    def evaluate(self, evaluator: Any) -> None:
        """Predict what is left, and wait for the other processes.

        A case that fails does not end the run (:class:`IsolatedCases`), so that every process comes to the waiting.
        """
        if evaluator.state.epoch_length:
            evaluator.run()
        if self.world_size > 1:
            torch.distributed.barrier()

    def score(self, **options: Any) -> None:
        """Take the figures, in the first process; see :func:`~monai_zsad.evaluation.scoring.score_run`.

        Raises:
            InputError: as there; cases that failed have no prediction.
        """
        if self.rank == 0:
            from monai_zsad.evaluation.scoring import score_run

            print(score_run(self.output_dir, **options).markdown)


def read_run(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of an evaluation's ``evaluation.json``.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    file = Path(output_dir).expanduser() / RUN_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if (content["schema"], content["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError("another schema")
        if not {"run", "benchmark", "protocol", "model", "cases"} <= content.keys():
            raise ValueError("parts are missing")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is no evaluation of this package ({type(error).__name__}); give the output folder of a bundle's "
            "evaluate.yaml"
        ) from error
    return content


def files_hash(record: Mapping[str, Any]) -> str:
    """Hash over the files of a case's image and mask."""
    return str(fingerprint(source_files=[path for path in (record["image"], record["mask"]) if path]).input)


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The parts that differ, in words."""
    names = {"benchmark": "another set", "protocol": "another protocol", "model": "another model"}
    names["settings"] = "other settings"
    found = [words for key, words in names.items() if earlier.get(key) != now[key]]
    return ", ".join(found) or "by another version"


class SavePredictiond(MapTransform):
    """Keep a case's prediction; the last of the postprocessing.

    MONAI's savers write images alone: a prediction is scored with its truth, label and score beside it.

    Args:
        keys: the network's answer.
        run: of which it is a part.
    """

    def __init__(self, keys: Any = "pred", *, run: EvaluationRun) -> None:
        super().__init__(keys)
        self.run = run

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the file; of the data only what names the case is passed on."""
        made = self.run.keep(data)
        return {"case": made.case, "volume_score": made.score}
