"""Evaluation of a bundle: predict the cases that are not finished, keep the predictions, and score all cases."""

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
from monai_zsad.evaluation.cases import image_prediction, parse_region, volume_prediction
from monai_zsad.evaluation.predictions import (
    FOLDER,
    RUN_FILE,
    Prediction,
    describe_run,
    files_hash,
    prediction_file,
    read_facts,
    read_run,
    run_difference,
    save_prediction,
)
from monai_zsad.evaluation.protocols import VOLUMES, Protocol
from monai_zsad.evaluation.scoring import score_run
from monai_zsad.flags import parse_flag
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.prompts import PromptEnsemble
from monai_zsad.writers import atomic_path, clean_temporaries

__all__ = ["EvaluationRun", "SavePredictiond"]

DTYPES = ("float32", "float16")

_logger = logging.getLogger(__name__)


class EvaluationRun:
    """One evaluation of a network on a benchmark set.

    MONAI's evaluator does not know which cases are finished. Its handlers, for example ``ROCAUC``, compute metrics
    during the run. A stopped run therefore has no metrics, and another metric needs another run. Here the prediction of
    each case is a file. A second run of the same model and protocol makes only the missing predictions.
    ``evaluation.json`` describes the run.

    Args:
        output_dir: folder of the evaluation.
        benchmark: name of the set.
        protocol: how the set is evaluated.
        records: all cases, from :func:`~monai_zsad.evaluation.benchmark_cases`.
        network: network of the bundle.
        settings: other settings that decide the predictions.
        prompts: prompts of each class, from :func:`~monai_zsad.evaluation.class_prompts`.
        region: where the voxels of volumes count, see :func:`~monai_zsad.evaluation.volume_prediction`.
        map_dtype: see :func:`~monai_zsad.evaluation.save_prediction`.
        overwrite: start again if the folder holds predictions of another model or protocol.
        rank: rank of this process. Each process takes its share of the cases.
        world_size: number of processes.

    Attributes:
        kept: cases whose predictions this process has written since :meth:`start`.

    Raises:
        ConfigurationError: ``map_dtype`` or ``region`` is unknown.
        InputError: a case is listed twice.
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
        """Description of the run in plain values: the content of ``evaluation.json``."""
        model = self.network.describe()
        if self.prompts:
            model |= {"prompts": {name: one.fingerprint() for name, one in self.prompts.items()}}
        facts = {
            "benchmark": self.benchmark.name,
            "protocol": self.protocol.as_dict(),
            "model": model,
            "settings": self.settings,
        }
        cases = [{key: record[key] for key in ("case", "class_name", "label")} for record in self.records.values()]
        return describe_run(facts, cases)

    def start(self, dataset: Any) -> list[str]:
        """Put the cases that this process has to predict into ``dataset.data``. Load the weights before.

        Returns:
            Ids of the finished cases.

        Raises:
            OutputError: the folder holds predictions of another model, protocol or file, and ``overwrite`` is false.
        """
        content = self.description()
        self.hash = str(content["run"])
        self._claim(content)
        done = [case for case, record in self.records.items() if self._is_done(case, record)]
        known = set(done)
        left = [record for case, record in self.records.items() if case not in known]
        if self.world_size > 1:
            # No process may write before all have listed the finished cases. Otherwise their shares would overlap.
            torch.distributed.barrier()
        dataset.data = [dict(record) for record in left[self.rank :: self.world_size]]
        self.kept, self._left = set(), len(dataset.data)
        _logger.info("%d cases are done already, %d remain", len(done), len(left))
        return done

    def _claim(self, content: Mapping[str, Any]) -> None:
        """Write ``evaluation.json``, unless the folder belongs to another run."""
        file = self.output_dir / RUN_FILE
        if file.is_file() and not self.overwrite:
            earlier = read_run(self.output_dir)
            if earlier["run"] != self.hash:
                raise OutputError(
                    f"{self.output_dir} holds predictions of a different run ({run_difference(earlier, content)}): "
                    "add --overwrite true to make them again, or give another --output_dir"
                )
        elif not file.is_file() and not self.overwrite and any((self.output_dir / FOLDER).glob("*.npz")):
            raise OutputError(
                f"{self.output_dir} holds predictions, but no {RUN_FILE} that describes the run: add --overwrite true "
                "to make them again, or give another --output_dir"
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
            # evaluation.json describes this run, so predictions of another run may be overwritten.
            return False
        if facts["files"] != files_hash(record):
            if self.overwrite:
                return False
            raise OutputError(
                f"{path}: {record['image']} or its mask has changed since this prediction was made: add --overwrite "
                "true to make it again, or give another --output_dir"
            )
        return True

    def prediction(self, data: Mapping[Hashable, Any]) -> Prediction:
        """Make the prediction of a case from the output of the network."""
        record = self.records[str(data["case"])]
        if self.volumes:
            return volume_prediction(data, record, self.region)
        return image_prediction(data, record, self.benchmark.has_masks)

    def keep(self, data: Mapping[Hashable, Any]) -> Prediction:
        """Write the prediction of a case, and log the progress."""
        record = self.records[str(data["case"])]
        made = replace(self.prediction(data), run=self.hash, files=files_hash(record))
        save_prediction(made, self.output_dir, self.map_dtype)
        self.kept.add(made.case)
        count = len(self.kept)
        if self.volumes or count == self._left or count % max(1, self._left // 20) == 0:
            _logger.info("[%d/%d] %s: score %.3f", count, self._left, made.case, made.score)
        return made

    def evaluate(self, evaluator: Any) -> None:
        """Predict the cases that are left, then wait for the other processes.

        A failed case does not end the run (:class:`~monai_zsad.evaluation.BenchmarkEvaluator`), so no process waits for
        ever.
        """
        if evaluator.state.epoch_length:
            evaluator.run()
        if self.world_size > 1:
            torch.distributed.barrier()

    def score(self, **options: Any) -> None:
        """Compute the metrics, in rank 0 only; see :func:`~monai_zsad.evaluation.score_run`.

        Raises:
            InputError: see ``score_run``; for example, a failed case has no prediction.
        """
        if self.rank == 0:
            print(score_run(self.output_dir, **options).markdown)


class SavePredictiond(MapTransform):
    """Write the prediction of a case. This is the last transform of the postprocessing.

    MONAI's savers write an image only. A prediction is a map with its truth, label and score.

    Args:
        keys: key of the network's output.
        run: evaluation that keeps the prediction.
    """

    def __init__(self, keys: Any = "pred", *, run: EvaluationRun) -> None:
        super().__init__(keys)
        self.run = run

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the file. Return only the id and the score of the case."""
        made = self.run.keep(data)
        return {"case": made.case, "volume_score": made.score}
