"""The file or folder of an image that a client names. A client must not read other files of the machine."""

# MONAI Label has its own environment; mypy runs in one without it.
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
    folders = [tempfile.gettempdir(), settings.MONAI_LABEL_SESSION_PATH]
    path = Path(image)
    return (
        path.is_absolute()
        and path.exists()
        and any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders if folder)
    )


def find_source(image: str, datastore: Datastore) -> Path:
    """Return the file or DICOM folder of an image in the data store; a series on a DICOMweb server is retrieved.

    Raises:
        InputError: if there is no such image, or the server does not answer.
    """
    if isinstance(datastore, DICOMWebDatastore):
        return _series(image, datastore)
    if image not in datastore.list_images():
        raise InputError(f"image {image!r} is not a study of this server: /datastore/ lists their names")
    return Path(datastore.get_image_uri(image))


def _series(image: str, datastore: DICOMWebDatastore) -> Path:
    if not re.fullmatch(r"\d+(\.\d+)+", image):
        raise InputError(f"image {image!r} is not a SeriesInstanceUID: /datastore/ lists them")
    try:
        datastore.get_image_uri(image)
        # Asked twice: the first answer names a temporary file, the second one the file that is kept.
        converted = Path(datastore.get_image_uri(image))
    except (LookupError, requests.HTTPError) as error:
        raise InputError(f"{datastore.name()} has no series {image}: /datastore/ lists its series") from error
    except requests.RequestException as error:
        raise InputError(f"{datastore.name()} does not answer: check its address, and that it runs") from error
    # MONAI Label converts the series to NIfTI with ITK. Only the DICOM files have the modality, can be checked, and
    # can be the source of DICOM objects.
    series = converted.with_name(image)
    return series if series.is_dir() and any(series.iterdir()) else converted
