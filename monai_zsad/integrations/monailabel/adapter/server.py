"""MONAI Label's web application. It answers other requests while it computes, and its errors are JSON."""

# MONAI Label has its own environment; mypy runs in one without it.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import json
import logging
import os
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, Request, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import MONAILabelException

from monai_zsad.data import explain
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.integrations.monailabel.compatibility import ORIGINS_VARIABLE

__all__ = ["app"]

_logger = logging.getLogger(__name__)
# Errors of the request.
_REQUEST_ERRORS = (ConfigurationError, InputError, MONAILabelException, json.JSONDecodeError)
_router = APIRouter(prefix=f"{settings.MONAI_LABEL_API_STR}/infer", include_in_schema=False)


@_router.post("/{model}", response_model=None)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Run MONAI Label's inference in another thread. Its own route blocks the server until the result is there."""
    del user
    return run_inference(background_tasks, model, image, session_id, params, file, label, output)


def _answer(request: Request, error: Exception) -> JSONResponse:
    status = 400 if isinstance(error, _REQUEST_ERRORS) else 500
    sentence = error.msg if isinstance(error, MONAILabelException) else explain(error)
    if isinstance(error, json.JSONDecodeError):
        sentence = f"params of the request is not JSON ({error}): send a JSON object"
    _logger.log(logging.WARNING if status == 400 else logging.ERROR, "%s: %s", request.url.path, sentence)
    return JSONResponse({"detail": sentence}, status_code=status)


app.include_router(_router)
# FastAPI takes the first route that matches.
app.router.routes.insert(0, app.router.routes.pop())
for _kind in (*_REQUEST_ERRORS, Exception):
    app.add_exception_handler(_kind, _answer)

# MONAI Label lets every web page in the user's browser call the server.
app.user_middleware[:] = [middleware for middleware in app.user_middleware if middleware.cls is not CORSMiddleware]
app.add_middleware(
    CORSMiddleware,
    allow_origins=json.loads(os.environ.get(ORIGINS_VARIABLE, "[]")),
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
