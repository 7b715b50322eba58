"""The app: the models, strategies and scoring methods of the server, and its answer to a request."""

# MONAI Label has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.others.generic import strtobool

from monai_zsad import __version__
from monai_zsad.data import explain
from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations.monailabel.adapter.ranking import MostAnomalousFirst, VolumeScoring
from monai_zsad.integrations.monailabel.adapter.sources import find_source, is_upload
from monai_zsad.integrations.monailabel.adapter.tasks import HeatMapTask, LevelsTask
from monai_zsad.integrations.monailabel.scores import ResultScores, Score, ScoreStore
from monai_zsad.integrations.monailabel.served import usable_bundles

__all__ = ["DEFAULT_BUNDLE", "ScreeningApp"]

DEFAULT_BUNDLE = "tiny_screening"
_SCORING = "volume_score"
_MOST_SCORED = 200

_logger = logging.getLogger(__name__)


class ScreeningApp(MONAILabelApp):
    """Zero-shot screening for MONAI Label's clients.

    Args:
        app_dir: folder of the server for logs and scores.
        studies: folder of volumes, or address of a DICOMweb server.
        conf: settings by name. ``bundles``: a bundle's folder, a folder of bundles, or the name of a bundle of this
            project. ``score_model``: the bundle whose scores order the studies. ``score_at_most``: studies per scoring
            run. ``scores_from``: folder of an earlier run whose scores order the studies. ``at_once``: number of
            requests that are computed at the same time, by default 1; others wait.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.bundles, name = usable_bundles(conf.get("bundles") or DEFAULT_BUNDLE, conf.get("score_model"))
        scores = Path(app_dir) / "scores" / f"{hashlib.sha256(studies.encode()).hexdigest()[:16]}.json"
        most = int(conf.get("score_at_most") or _MOST_SCORED)
        self._slots = threading.BoundedSemaphore(int(conf.get("at_once") or 1))
        results = ResultScores(Path(conf["scores_from"])) if conf.get("scores_from") else None
        self.scoring_method = VolumeScoring(self.bundles[name], ScoreStore(scores), most, results)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="monai-zsad",
            description="Zero-shot anomaly screening. For research, not for clinical use.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return two models for each bundle: ``<name>`` for levels of suspicion, and ``<name>_heatmap``."""
        levels = {name: LevelsTask(bundle) for name, bundle in self.bundles.items()}
        return {**levels, **{f"{name}_heatmap": HeatMapTask(bundle) for name, bundle in self.bundles.items()}}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the order of suspicion, and MONAI Label's random order."""
        return {"most_anomalous_first": MostAnomalousFirst(self.scoring_method), "random": Random()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the method that computes the volume scores."""
        return {_SCORING: self.scoring_method}

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Answer a request for one image.

        Args:
            request: ``model``, ``image`` (id in the data store, or a file that the client sent), ``save_label``,
                ``label_tag``, and the parameters of the task.
            datastore: ``None`` for the data store of the app.

        Raises:
            ConfigurationError: if the model is unknown or an option cannot be used.
            InputError: if the image is unknown or cannot be read.
        """
        model = str(request.get("model") or "")
        task = self._infers.get(model)
        if task is None:
            raise ConfigurationError(f"model {model!r} is unknown: this server has {', '.join(self._infers)}")
        store = datastore or self.datastore()
        image = str(request.get("image") or "")
        sent = is_upload(image)
        source = Path(image) if sent else find_source(image, store)
        with self._slots:
            file, params = task({**copy.deepcopy(dict(request)), "image": str(source), "image_id": source.name})
        if not sent and model == self.scoring_method.bundle.name and self._usual(params):
            self.scoring_method.store.put(image, self.scoring_method.key(image, store), Score(params["volume_score"]))
        label = file
        if not sent and strtobool(str(request.get("save_label") or "false")):
            tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
            label = store.save_label(image, file, tag, {"model": model, "params": params})
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": params}

    def _usual(self, params: Mapping[str, Any]) -> bool:
        """Whether a request had the default options, so that its score may order the studies."""
        from monai_zsad.integrations.monailabel.options import read_options

        shown = self.scoring_method.bundle.panel
        return bool(params["options"] == dict(read_options({}, shown).overrides))

    def batch_infer(self, request: Mapping[str, Any], datastore: Any = None) -> Any:
        """Screen many images. An image that fails has an ``error`` with the reason in its place."""
        request = dict(request)
        if not torch.cuda.is_available():
            # MONAI Label divides the number of images by the number of GPUs, which is zero here.
            request["multi_gpu"] = False

        def one(single: Mapping[str, Any], store: Any) -> dict[str, Any]:
            try:
                return self.infer(single, store)
            except Exception as error:  # noqa: BLE001 - one image that fails must not end the batch
                _logger.warning("%s: %s", single.get("image"), explain(error))
                return {"error": explain(error)}

        return self._batch_infer(request, datastore or self.datastore(), one)

    def async_scoring(self, method: str | None, params: Mapping[str, Any] | None = None) -> Any:
        """Start the scoring process, unless all scores are known or such a process already runs."""
        if self._server_mode and method is None:
            running, _ = AsyncTask.status("scoring", check_if_running=True)
            if running or not self.scoring_method.missing(self.datastore()):
                return {}
            return super().async_scoring(None, {_SCORING: {"background": True}})
        return super().async_scoring(method, params)
