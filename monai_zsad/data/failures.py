"""Explaining an exception to the user in one sentence."""

from __future__ import annotations

from monai_zsad.errors import InputError, ZsadError

__all__ = ["OUT_OF_MEMORY", "explain", "failure_code", "find_user_error"]

OUT_OF_MEMORY = "out-of-memory"
"""Code of a failure because memory was exhausted."""


def find_user_error(error: BaseException) -> ZsadError | None:
    """First error with a remedy in the chain of causes of ``error``, or None.

    MONAI wraps an exception of a transform or a config item in a ``RuntimeError``. The error for the user is then one
    or more steps down the chain of ``__cause__`` and ``__context__``.

    Args:
        error: any exception.

    Returns:
        The error itself or one of its causes.

    Example:
        >>> from monai_zsad.errors import InputError
        >>> try:
        ...     try:
        ...         raise InputError("scan.nii: truncated; copy it again")
        ...     except InputError as inner:
        ...         raise RuntimeError("applying transform Compose") from inner
        ... except RuntimeError as outer:
        ...     print(find_user_error(outer))
        scan.nii: truncated; copy it again
    """
    for link in _chain(error):
        if isinstance(link, ZsadError):
            return link
    return None


def explain(error: BaseException) -> str:
    """One sentence for ``error``: the user error in its chain of causes, or the root cause with its type.

    Args:
        error: any exception.

    Returns:
        The sentence.

    Example:
        >>> explain(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
        >>> explain(MemoryError())
        'out of memory: use a smaller batch of slices, a smaller image size, or a machine with more memory'
    """
    known = find_user_error(error)
    if known is not None:
        return " ".join(str(known).split())
    links = _chain(error)
    if _is_out_of_memory(links):
        return "out of memory: use a smaller batch of slices, a smaller image size, or a machine with more memory"
    root = links[-1]
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    return f"{type(root).__name__}: {lines[0]}" if lines else type(root).__name__


def failure_code(error: BaseException) -> str:
    """Stable name of a failure for programs: why an input was refused, or ``"out-of-memory"``; otherwise empty.

    Args:
        error: any exception.

    Returns:
        A key of :data:`~monai_zsad.data.REFUSALS`, ``"refused"``, ``"out-of-memory"`` or ``""``.

    Example:
        >>> from monai_zsad.errors import InputError
        >>> failure_code(InputError("scan.nii: is empty", code="empty-file")), failure_code(MemoryError())
        ('empty-file', 'out-of-memory')
        >>> failure_code(InputError("not that")), failure_code(ValueError("x"))
        ('refused', '')
    """
    known = find_user_error(error)
    if isinstance(known, InputError):
        return known.code or "refused"
    return OUT_OF_MEMORY if _is_out_of_memory(_chain(error)) else ""


def _is_out_of_memory(links: list[BaseException]) -> bool:
    return any(isinstance(link, MemoryError) or type(link).__name__ == "OutOfMemoryError" for link in links)


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return links
