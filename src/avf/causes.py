"""Why something failed, in words: an error, and the errors that it was raised from."""

import os

MAX_CAUSES = 16
MAX_TEXT = 2000
"""Characters of one error's words: a peer or a file may have chosen them."""


def words(error: BaseException) -> str:
    """One error's own words; of a system's error the file and what is wrong with it, without `[Errno 2]`."""
    if isinstance(error, OSError) and error.strerror:
        path = _path(error.filename)
        return f"{path}: {error.strerror}"[:MAX_TEXT] if path else str(error.strerror)[:MAX_TEXT]
    return str(error)[:MAX_TEXT] or type(error).__name__


def chain(error: BaseException) -> list[str]:
    """The words of `error` and of what it was raised from, outermost first; what was said already is left out."""
    texts = [words(error)]
    seen = {id(error)}
    cause = error.__cause__
    while cause is not None and id(cause) not in seen and len(texts) <= MAX_CAUSES:
        seen.add(id(cause))
        if not _is_told(cause, texts):
            texts.append(words(cause))
        cause = cause.__cause__
    return texts


def _is_told(error: BaseException, texts: list[str]) -> bool:
    parts = [words(error)]
    if isinstance(error, OSError) and error.strerror:
        parts = [str(error.strerror), _path(error.filename)]
    return any(all(part in text for part in parts) for text in texts)


def _path(name: object) -> str:
    """A path as an OSError has it: text, bytes, nothing, or a number where a descriptor was meant."""
    if isinstance(name, int):
        return f"descriptor {name}"
    return "" if name is None else os.fsdecode(name)  # type: ignore[arg-type]
