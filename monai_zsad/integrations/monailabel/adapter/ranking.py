"""Studies in the order of suspicion: the scoring method that fills the scores, and the strategy that uses them."""

# MONAI Label and what it brings are in an environment of their own, where no type is checked.
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
from monai_zsad.integrations.monailabel.scores import Score, ScoreStore, image_stamp, next_image
from monai_zsad.integrations.monailabel.screener import screen_image
from monai_zsad.integrations.monailabel.served import ServedBundle

__all__ = ["MostAnomalousFirst", "VolumeScoring"]

_logger = logging.getLogger(__name__)


class VolumeScoring(ScoringMethod):
    """Fills the volume scores of all studies that have none, with the bundle's own options.

    Args:
        bundle: that scores.
        store: where scores are kept.
        most: the most studies that are scored in one run; the next one goes on.
    """

    def __init__(self, bundle: ServedBundle, store: ScoreStore, most: int) -> None:
        super().__init__(f"Volume scores by {bundle.name}, for the order of the studies")
        self.bundle = bundle
        self.store = store
        self.most = most

    def key(self, image: str, datastore: Datastore) -> str:
        """What a score holds for: the bundle as it is, and the image as it is."""
        # A series keeps its UID; to look at its files it would have to be fetched.
        remote = isinstance(datastore, DICOMWebDatastore)
        stamp = image_stamp(None if remote else Path(datastore.get_image_uri(image)))
        return f"{self.bundle.name}:{self.bundle.fingerprint()}:{stamp}"

    def known(self, datastore: Datastore) -> dict[str, Score]:
        """The scores that there are."""
        return self.store.among([(image, self.key(image, datastore)) for image in datastore.list_images()])

    def missing(self, datastore: Datastore) -> list[str]:
        """Images without a score."""
        known = self.known(datastore)
        return sorted(image for image in datastore.list_images() if image not in known)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what is missing; an image that fails is noted with its reason and does not end the run."""
        if request.get("background"):
            os.nice(10)
        found: dict[str, Any] = {}
        for image in self.missing(datastore)[: self.most]:
            try:
                screened = screen_image(self.bundle, find_source(image, datastore), case=image)
                score = Score(screened.params["volume_score"])
            except Exception as error:  # noqa: BLE001 - one study that fails must not keep the others from their place
                score = Score(None, explain(error))
                _logger.warning("%s: not scored: %s", image, score.reason)
            self.store.put(image, self.key(image, datastore), score)
            found[image] = vars(score)
        return found


class MostAnomalousFirst(Strategy):
    """Next Sample: the unlabelled study with the largest volume score that was not shown yet.

    Args:
        scoring: knows the scores.
    """

    def __init__(self, scoring: VolumeScoring) -> None:
        super().__init__("Most anomalous first: by the volume score, studies not yet scored after the others")
        self.scoring = scoring

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The study to look at, with its score; None where all are labelled."""
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
