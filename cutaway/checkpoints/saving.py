"""Saving without making the training wait: a copy in memory, then everything else in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.checkpoints.bundle import write_bundle
from cutaway.checkpoints.manifest import Manifest

Groups = Mapping[str, Mapping[str, Tensor]]
_COPIERS = 4


class Saver:
    """Writes bundles in a thread, one at a time.

    `save` returns once the tensors are copied into buffers that are kept for the next time; training may go on and
    change them. A save that failed is told at the next call of any method, and no bundle is written after it.

    Args:
        in_background: Otherwise `save` returns when the bundle is on disk.
    """

    def __init__(self, *, in_background: bool = True) -> None:
        self._in_background = in_background
        self._buffers: dict[tuple[str, str], Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether a save failed, so that another would most likely fail too."""
        return self._failure is not None

    def save(self, path: Path, manifest: Manifest, tensors: Groups, after: Callable[[], None]) -> None:
        """Begins to write a bundle, after the one before is written.

        Args:
            path: The bundle's directory.
            manifest: See `write_bundle`.
            tensors: See `write_bundle`; on any device.
            after: Called in the background once the bundle is committed, to remove older ones.

        Raises:
            BundleError: This or an earlier save failed.
        """
        self.wait()
        copies = self._copied(tensors)

        def write() -> None:
            try:
                write_bundle(path, manifest, copies)
                after()
            except Exception as error:  # noqa: BLE001 - told in the training's own thread, by check()
                self._failure = error

        self._thread = threading.Thread(target=write, name="cutaway-save")
        self._thread.start()
        if not self._in_background:
            self.wait()

    def check(self) -> None:
        """Raises what went wrong in the background, if anything has."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Returns when nothing is being written any more; raises as `check` does."""
        self.join()
        self.check()

    def join(self) -> None:
        """Returns when nothing is being written any more, and raises nothing."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _copied(self, tensors: Groups) -> dict[str, dict[str, Tensor]]:
        copies: dict[str, dict[str, Tensor]] = {}
        plain: list[tuple[Tensor, Tensor]] = []
        on_gpu = False
        for group, members in tensors.items():
            copies[group] = {}
            for name, tensor in members.items():
                tensor = tensor.detach()
                buffer = self._buffers.get((group, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    # Of the same memory format, so that the copy is one sweep; made contiguous by the writer.
                    on_cuda = tensor.device.type == "cuda"
                    buffer = torch.empty_like(tensor, device="cpu", pin_memory=on_cuda)
                    self._buffers[group, name] = buffer
                copies[group][name] = buffer
                if tensor.device.type == "cpu" and buffer.stride() == tensor.stride():
                    plain.append((buffer, tensor))
                else:
                    buffer.copy_(tensor, non_blocking=True)
                    on_gpu = on_gpu or tensor.device.type == "cuda"
        with ThreadPoolExecutor(_COPIERS) as copiers:
            list(copiers.map(_copy_memory, (plain[at::_COPIERS] for at in range(_COPIERS))))
        if on_gpu:
            torch.cuda.synchronize()
        return copies


def _copy_memory(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copies tensors of equal strides. `copy_` has all of torch's threads meet after each tensor: much slower."""
    for buffer, tensor in pairs:
        np.copyto(_bytes(buffer), _bytes(tensor))


def _bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """The memory of a tensor without gaps, in its own order."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
