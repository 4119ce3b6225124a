"""ONNX Runtime: opened where a person asked for, never somewhere else in silence, and its failures in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime

from cutaway.errors import DeviceError, ServingError

__all__ = [
    "CUDA",
    "Provider",
    "Session",
    "Stop",
    "StoppedError",
    "current_stop",
    "open_session",
    "run",
    "stoppable",
    "wanted_providers",
]

Provider = Literal["auto", "cpu", "cuda"]
Session: TypeAlias = Any
"""An `onnxruntime.InferenceSession`, which has no types."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_LONGEST_REASON = 300


class StoppedError(ServingError):
    """A run was ended before its answer was there, because somebody asked for it."""

    def __init__(self) -> None:
        super().__init__("The network was stopped before it had an answer.")


class Stop:
    """A wish of another thread that the network stop, in the run it is in and before any further one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._told: list[Callable[[], None]] = []

    def ask(self) -> None:
        """Ends what runs. ONNX Runtime looks between two operators, so it may take the time of one."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            for tell in self._told:
                tell()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Within this context, `tell` is called once somebody asks.

        Raises:
            StoppedError: Somebody asked already.
        """
        with self._lock:
            if self._asked:
                raise StoppedError
            self._told.append(tell)
        try:
            yield
        finally:
            with self._lock:
                self._told.remove(tell)

    @contextmanager
    def options(self) -> Iterator[Any]:
        """The `RunOptions` of one run.

        Raises:
            StoppedError: Somebody asked already.
        """
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4

        def end() -> None:
            options.terminate = True

        with self.telling(end):
            yield options


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """Within this context, in this thread, `stop` ends every run of a network."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


def current_stop() -> Stop | None:
    """What ends a run in this thread."""
    return _STOP.get()


def wanted_providers(provider: Provider) -> tuple[str, ...]:
    """The execution providers to ask ONNX Runtime for, in order.

    Raises:
        ServingError: There is no such provider.
        DeviceError: `cuda` was asked for and this ONNX Runtime was built without it.
    """
    if provider not in get_args(Provider):
        raise ServingError(f"There is no provider {provider!r}.", hint=f"Known are {', '.join(get_args(Provider))}.")
    has_cuda = CUDA in onnxruntime.get_available_providers()
    if provider == "cuda" and not has_cuda:
        raise DeviceError(
            "This ONNX Runtime was built without CUDA.",
            hint="`pip install cutaway[serve-gpu]` in an environment without onnxruntime, or ask for the provider cpu.",
        )
    return (CUDA, CPU) if provider != "cpu" and has_cuda else (CPU,)


def open_session(
    data: bytes | Path, provider: Provider, threads: int | None, external: tuple[str, memoryview] | None = None
) -> Session:
    """A session on the bytes of a file.

    From bytes and not from the path: what was checked is what is run.

    Args:
        data: The ONNX file; its path only where the file is one's own, as ONNX Runtime then opens whatever second file
            it names.
        external: Name and content of its second file; ONNX Runtime copies what it needs.
        provider: `auto` takes CUDA where it loads.
        threads: CPU threads of one run; ONNX Runtime's choice where None.

    Raises:
        ServingError: ONNX Runtime cannot load the file, or an argument is out of range.
        DeviceError: `cuda` was asked for and did not load; ONNX Runtime itself would fall back in silence.
    """
    wanted = wanted_providers(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its failures reach the person as exceptions
    # Threads that turn while they wait for work take the cores from those that decode, answer or run the next picture.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        if threads < 1:
            raise ServingError(f"threads must be at least 1, not {threads}.")
        options.intra_op_num_threads = threads
    if external is not None:
        name, content = external
        options.add_external_initializers_from_files_in_memory([name], [content], [len(content)])
    try:
        session = _create(data, options, wanted)
    except ServingError:
        if provider != "auto" or wanted == (CPU,):
            raise
        session = _create(data, options, (CPU,))
    if provider == "cuda" and session.get_providers()[:1] != [CUDA]:
        raise DeviceError(
            "ONNX Runtime could not load CUDA on this machine.",
            hint="Check the driver and `pip install cutaway[serve-gpu]`, or ask for the provider cpu.",
        )
    return session


def _create(data: bytes | Path, options: Any, providers: Sequence[str]) -> Session:
    try:
        # Without its own fallback, which prints to stdout and goes on with other providers even between two runs.
        return onnxruntime.InferenceSession(data, options, providers=list(providers), enable_fallback=0)
    # A native library's exceptions have no base of their own, and whatever it raises here is about the file.
    except Exception as error:
        raise ServingError(f"ONNX Runtime cannot load the file: {_reason(error)}", hint="Export it again.") from error


def run(session: Session, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The named outputs, all of them finite.

    Raises:
        ServingError: The network does not run, or its answer is not finite.
        StoppedError: See `stoppable`.
    """
    stop = _STOP.get()
    try:
        results = _run(session, outputs, feed, stop)
    except StoppedError:
        raise
    except Exception as error:
        if stop is not None and stop.asked:
            raise StoppedError from error
        raise ServingError(f"ONNX Runtime could not run the network: {_reason(error)}") from error
    if not all(np.isfinite(result).all() for result in results if np.issubdtype(result.dtype, np.floating)):
        raise ServingError("The network's answer holds values that are not finite.", hint="Its weights may be broken.")
    return results


def _run(
    session: Session, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[Any]], stop: Stop | None
) -> list[npt.NDArray[Any]]:
    if stop is None:
        unstopped: list[npt.NDArray[Any]] = session.run(list(outputs), dict(feed))
        return unstopped
    with stop.options() as options:
        results: list[npt.NDArray[Any]] = session.run(list(outputs), dict(feed), options)
    return results


def _reason(error: Exception) -> str:
    """The first line of what ONNX Runtime says, which may quote a long name from the file."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "…"
