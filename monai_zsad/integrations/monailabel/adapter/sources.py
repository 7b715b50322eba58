"""From the image that a client names to the file or folder that is read; nothing else on the machine may be named."""

# MONAI Label and what it brings are in an environment of their own, where no type is checked.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import re
import tempfile
from pathlib import Path

import requests
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import Datastore

from monai_zsad.errors import InputError

__all__ = ["find_source", "is_upload"]


def is_upload(image: str) -> bool:
    """Whether ``image`` is a file that a client sent with its request or its session."""
    places = [tempfile.gettempdir(), settings.MONAI_LABEL_SESSION_PATH]
    path = Path(image)
    return (
        path.is_absolute()
        and path.exists()
        and any(path.resolve().is_relative_to(Path(place).resolve()) for place in places if place)
    )


def find_source(image: str, datastore: Datastore) -> Path:
    """File or DICOM folder of an image of the data store; a series of a DICOMweb server is fetched.

    Raises:
        InputError: if there is no such image.
    """
    if isinstance(datastore, DICOMWebDatastore):
        return _series(image, datastore)
    if image not in datastore.list_images():
        raise InputError(f"image {image!r} is none of the studies of this server; see /datastore/ for their names")
    return Path(datastore.get_image_uri(image))


def _series(image: str, datastore: DICOMWebDatastore) -> Path:
    if not re.fullmatch(r"\d+(\.\d+)+", image):
        raise InputError(f"image {image!r} is no SeriesInstanceUID")
    try:
        datastore.get_image_uri(image)
        # Where it stays; the first answer names a temporary file.
        converted = Path(datastore.get_image_uri(image))
    except (LookupError, requests.HTTPError) as error:
        raise InputError(f"series {image} cannot be fetched from {datastore.name()}: it is not there") from error
    except requests.RequestException as error:
        raise InputError(f"{datastore.name()} does not answer: check the address and that it runs") from error
    # MONAI Label reads the series with ITK and keeps it as NIfTI for its clients; modality, checks and the source of
    # DICOM objects are in the series itself.
    series = converted.with_name(image)
    return series if series.is_dir() and any(series.iterdir()) else converted
