"""The error of this package."""


class ProjectError(Exception):
    """A source that no APK can be made of; the message names the file. `hint` is what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
