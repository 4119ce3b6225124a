"""The errors a person sees: one sentence that says what is wrong, and a hint that says what to do next."""

from __future__ import annotations


class CutawayError(Exception):
    """Something a person can put right. The command line shows the sentence and the hint and exits with 1.

    Args:
        message: What is wrong, with the value that is wrong.
        hint: What to do next.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SettingsError(CutawayError):
    """A setting is unknown, out of range, or does not fit the others."""


class ImageError(CutawayError):
    """A picture cannot be decoded, or is larger than allowed."""


class DataError(CutawayError):
    """A data set is missing, unreadable or does not fit the network."""


class NetworkError(CutawayError):
    """A network is unknown, or cannot be built or used as asked."""


class BundleError(CutawayError):
    """A bundle or run is missing, damaged, or does not fit."""


class BusyError(BundleError):
    """Another process is at work in a directory that takes one at a time."""


class DamagedBundleError(BundleError):
    """A bundle is not what was written. Anything else that is wrong with a bundle leaves it as good as it was."""


class DeviceError(CutawayError):
    """A device or an execution provider that was asked for is not there."""


class InspectionError(CutawayError):
    """An inspection cannot be done on this network as asked."""


class ExportError(CutawayError):
    """A network cannot be exported, or the exported file does not agree with it."""


class ServingError(CutawayError):
    """A model file or a server cannot be used as asked."""


class Interrupted(Exception):  # noqa: N818 - it is not an error
    """A signal asked for the end, and everything was put in order first.

    Args:
        signum: The signal's number; a shell's exit code for it is 128 more.
        said: What a person should know now.
    """

    def __init__(self, signum: int, said: str) -> None:
        super().__init__(said)
        self.signum = signum
        self.said = said
