"""Studies in the order of suspicion: a method that computes the scores, and a strategy that uses them."""

# MONAI Label has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from monai_zsad.data import explain
from monai_zsad.integrations.monailabel.adapter.sources import find_source
from monai_zsad.integrations.monailabel.scores import (
    ResultScores,
    Score,
    ScoreStore,
    image_stamp,
    next_image,
)
from monai_zsad.integrations.monailabel.screener import screen_image
from monai_zsad.integrations.monailabel.served import ServedBundle

__all__ = ["MostAnomalousFirst", "VolumeScoring"]

_logger = logging.getLogger(__name__)


class VolumeScoring(ScoringMethod):
    """Compute the missing volume scores of all studies, with the default options of a bundle.

    Args:
        bundle: the bundle that computes the scores.
        store: file that keeps the scores.
        most: largest number of studies in one run. The next run continues.
        results: scores of an earlier run, which order the studies. Then no score is computed, because scores of
            different methods cannot be compared.
    """

    def __init__(self, bundle: ServedBundle, store: ScoreStore, most: int, results: ResultScores | None = None) -> None:
        source = bundle.name if results is None else results.folder.name
        super().__init__(f"Volume scores by {source}, for the order of the studies")
        self.bundle = bundle
        self.store = store
        self.most = most
        self.results = results

    def key(self, image: str, datastore: Datastore) -> str:
        """Return a text that changes when the bundle or the image changes; the score is then computed again."""
        # A series on a server keeps its UID. To look at its files, all of them would have to be retrieved.
        remote = isinstance(datastore, DICOMWebDatastore)
        stamp = image_stamp(None if remote else Path(datastore.get_image_uri(image)))
        return f"{self.bundle.name}:{self.bundle.fingerprint()}:{stamp}"

    def known(self, datastore: Datastore) -> dict[str, Score]:
        """Return the known scores by image."""
        if self.results is not None:
            remote = isinstance(datastore, DICOMWebDatastore)
            images = datastore.list_images()
            return self.results.among(
                [(image, None if remote else Path(datastore.get_image_uri(image))) for image in images]
            )
        return self.store.among([(image, self.key(image, datastore)) for image in datastore.list_images()])

    def missing(self, datastore: Datastore) -> list[str]:
        """Return the images whose score is to be computed."""
        if self.results is not None:
            return []
        known = self.known(datastore)
        return sorted(image for image in datastore.list_images() if image not in known)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Compute the missing scores. An image that fails is recorded with the reason; the run goes on."""
        if request.get("background"):
            os.nice(10)
        found: dict[str, Any] = {}
        for image in self.missing(datastore)[: self.most]:
            try:
                screened = screen_image(self.bundle, find_source(image, datastore), case=image)
                score = Score(screened.params["volume_score"])
            except Exception as error:  # noqa: BLE001 - a study that fails must not stop the others
                score = Score(None, explain(error))
                _logger.warning("%s has no score: %s", image, score.reason)
            self.store.put(image, self.key(image, datastore), score)
            found[image] = vars(score)
        return found


class MostAnomalousFirst(Strategy):
    """Strategy of *Next Sample*: the unlabelled study with the largest volume score that was not shown yet.

    Args:
        scoring: method that knows the scores.
    """

    def __init__(self, scoring: VolumeScoring) -> None:
        super().__init__("Most anomalous first, by volume score; studies without a score come last")
        self.scoring = scoring

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the next study and its score, or ``None`` if all studies have a label."""
        name = request.get("strategy")

        def shown(image: str) -> float:
            return float(datastore.get_image_info(image).get("strategy", {}).get(name, {}).get("ts", 0))

        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores = self.scoring.known(datastore)
        chosen = next_image(images, scores, shown)
        if chosen is None:
            return None
        image, score = chosen
        return {
            "id": image,
            "volume_score": score.volume_score if score else None,
            "reason": score.reason if score else "",
            "scored": len(scores),
            "unlabeled": len(images),
        }
