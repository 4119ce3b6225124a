"""Saving without making the training wait: a copy in memory, then everything else in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.checkpoints.bundle import write_bundle
from cutaway.checkpoints.manifest import Manifest
from cutaway.errors import BundleError

Groups = Mapping[str, Mapping[str, Tensor]]
_COPIERS = 4
_Pairs = list[tuple[Tensor, Tensor]]
_Key = tuple[str, str]


class Saver:
    """Writes bundles in a thread, one at a time.

    Tensors are copied into buffers that are kept for the next time, before anything may change them. Most of a
    training's state, its weights and the optimizer's, stays the same until the next update: that is copied in the
    background while the network computes the next gradients, and `before_update` has to be called then. A save
    that failed is told by `save`, `check` and `wait` from then on, and no bundle is written after it.

    Some networks change their own weights on the way, as `nn.Embedding(max_norm=1)` does. So the first save copies
    everything at once, and what is another by `before_update` is never left to the background.

    Args:
        in_background: Otherwise `save` returns when the bundle is on disk.
    """

    def __init__(self, *, in_background: bool = True) -> None:
        self._in_background = in_background
        self._buffers: dict[tuple[str, str], Tensor] = {}
        self._thread: threading.Thread | None = None
        self._copied = threading.Event()
        self._copied.set()
        self._failure: Exception | None = None
        self._claims: list[_Claim] = []
        self._looked = False
        self._unsteady: set[_Key] = set()

    @property
    def failed(self) -> bool:
        """Whether a save failed, so that another would most likely fail too."""
        return self._failure is not None

    def save(
        self,
        path: Path,
        manifest: Manifest,
        tensors: Groups,
        after: Callable[[], None],
        *,
        steady: Collection[_Key] = (),
    ) -> None:
        """Begins to write a bundle, after the one before is written.

        Args:
            path: The bundle's directory.
            manifest: See `write_bundle`.
            tensors: See `write_bundle`; on any device.
            after: Called in the background once the bundle is committed, to remove older ones.
            steady: File and name of the tensors that nothing changes until `copied` returned.

        Raises:
            BundleError: This or an earlier save failed.
        """
        self.wait()
        copies = self._buffers_for(tensors)
        now: _Pairs = []
        claims: list[_Claim] = []
        for group, members in tensors.items():
            for name, tensor in members.items():
                key, pair = (group, name), (copies[group][name], tensor.detach())
                # On a GPU the copy is only asked for here: it keeps its place ahead of whatever comes after.
                can_wait = self._in_background and tensor.device.type != "cuda"
                if can_wait and key in steady and key not in self._unsteady:
                    claims.append(_Claim(key, *pair, tensor._version))
                else:
                    now.append(pair)
        later = claims if self._looked else []
        arrivals = _copy(now if self._looked else now + [(claim.buffer, claim.tensor) for claim in claims])
        self._claims = claims
        self._copied.clear()

        def write() -> None:
            try:
                try:
                    _copy([(claim.buffer, claim.tensor) for claim in later])
                    _check(later)
                finally:
                    self._copied.set()
                for arrival in arrivals:
                    arrival.synchronize()
                write_bundle(path, manifest, copies)
                after()
            except Exception as error:  # noqa: BLE001 - told in the training's own thread, by check()
                self._failure = error

        thread = threading.Thread(target=write, name="cutaway-save")
        try:
            thread.start()
        except BaseException:
            self._copied.set()  # nobody else will
            raise
        self._thread = thread
        if not self._in_background:
            self.wait()

    def copied(self) -> None:
        """Returns when everything that was given to `save` may change."""
        self._copied.wait()

    def before_update(self) -> None:
        """As `copied`; looks whether computing the gradients changed what was said to be steady."""
        self.copied()
        for claim in self._claims:
            if claim.is_broken or not (self._looked or torch.equal(claim.buffer, claim.tensor.cpu())):
                self._unsteady.add(claim.key)
        self._looked = self._looked or bool(self._claims)
        self._claims = []

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

    def _buffers_for(self, tensors: Groups) -> dict[str, dict[str, Tensor]]:
        """A tensor on the CPU for each of those given, the same as last time where it still fits."""
        found: dict[str, dict[str, Tensor]] = {group: {} for group in tensors}
        for group, members in tensors.items():
            for name, tensor in members.items():
                buffer = self._buffers.get((group, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    # Of the same memory format, so that the copy is one sweep; made contiguous by the writer.
                    on_cuda = tensor.device.type == "cuda"
                    buffer = torch.empty_like(tensor, device="cpu", pin_memory=on_cuda, requires_grad=False)
                    self._buffers[group, name] = buffer
                found[group][name] = buffer
        return found


@dataclass(frozen=True)
class _Claim:
    """A tensor that is said to stay the same until the next update, and torch's count of its changes up to then."""

    key: _Key
    buffer: Tensor
    tensor: Tensor
    version: int

    @property
    def is_broken(self) -> bool:
        """Whether it was changed; not told where it was done behind torch's back, through `.data`."""
        return self.tensor._version != self.version


def _check(claims: list[_Claim]) -> None:
    """Refuses copies of what may have changed while it was copied."""
    if names := [claim.key[1] for claim in claims if claim.is_broken]:
        raise BundleError(
            f"The network changed its '{names[0]}' before the update, while it was copied to be saved.",
            hint="Save in the foreground: --no-save-in-background.",
        )


def _copy(pairs: _Pairs) -> list[torch.cuda.Event]:
    """Copies each second tensor into the first. From a GPU they are there once the events that are given back are."""
    plain: _Pairs = []
    streams = set()
    for buffer, tensor in pairs:
        if tensor.device.type == "cpu" and buffer.stride() == tensor.stride():
            plain.append((buffer, tensor))
        else:
            buffer.copy_(tensor, non_blocking=True)
            if tensor.device.type == "cuda":
                streams.add(torch.cuda.current_stream(tensor.device))
    with ThreadPoolExecutor(_COPIERS) as copiers:
        list(copiers.map(_copy_memory, (plain[at::_COPIERS] for at in range(_COPIERS))))
    return [stream.record_event() for stream in streams]


def _copy_memory(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copies tensors of equal strides. `copy_` has all of torch's threads meet after each tensor: much slower."""
    for buffer, tensor in pairs:
        np.copyto(_bytes(buffer), _bytes(tensor))


def _bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """The memory of a tensor without gaps, in its own order."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
