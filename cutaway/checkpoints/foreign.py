"""Weights that other programs stored: state dicts and training checkpoints of PyTorch, and safetensors.

Nothing in a file is run: pickles go through torch's weights-only loading, which knows tensors and plain containers.
Shapes are known before any tensor is read into memory, so that a caller can refuse a file by its shapes.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from cutaway.checkpoints.bundle import verify_bundle
from cutaway.checkpoints.matching import Described, describe
from cutaway.checkpoints.restoring import build_from
from cutaway.checkpoints.runs import Stored, Which, find
from cutaway.checkpoints.tensor_files import shapes_in
from cutaway.durable import sync, sync_directory
from cutaway.errors import BundleError

# Where training programs keep the weights in their checkpoints, the likeliest first.
KNOWN_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "model_ema",
    "ema_model",
    "ema_state_dict",
    "state_dict_ema",
)
_DEEPEST = 3
_LARGEST_PICKLE = 64 * 2**20
_NAMED = 5
_SAVE_AGAIN = "Where the file comes from, save the weights alone: torch.save(model.state_dict(), FILE)."


@dataclass(frozen=True)
class ForeignWeights:
    """The weights in a file that is not ours.

    Attributes:
        path: The file.
        shapes: Name -> data type and shape.
        read: Gives the tensors of these names, contiguous and on the CPU.
        key: Where in a nested checkpoint they are, with dots; empty where they are the whole file.
        other_keys: Further places in it that hold weights.
        left_out: Names beside the weights that hold no tensor.
    """

    path: Path
    shapes: dict[str, Described]
    read: Callable[[Iterable[str]], dict[str, Tensor]]
    key: str = ""
    other_keys: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the whole file."""
        with self.path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()


def read_weights(path: Path, *, key: str | None = None) -> ForeignWeights:
    """Opens a `.pth`, `.pt`, `.ckpt` or `.safetensors` file; the content decides, not the name.

    Args:
        path: The file.
        key: Where in a nested checkpoint the weights are; found where None.

    Raises:
        BundleError: It is not there, holds no weights, or would have to run code to be read.
    """
    try:
        with path.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise BundleError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    if start[8:9] == b"{":
        if key:
            raise BundleError(f"{path} is a safetensors file, which has no key '{key}' to look under.")
        return _read_safetensors(path)
    if start.startswith(b"PK"):
        _check_archive(path)
    elif not start.startswith(b"\x80"):
        raise BundleError(
            f"{path} is neither a file of torch.save nor safetensors.", hint="Its first bytes are of another format."
        )
    return _state_dict_in(path, _load(path, mapped=start.startswith(b"PK")), key)


def to_pth(reference: str | Path, out: Path, *, prefer: Which = "best") -> Stored:
    """Writes a bundle's weights as a plain state dict, which `torch.load(…, weights_only=True)` reads.

    Made only where a person asks for it, this is the one file in pickle's format that cutaway writes.

    Args:
        reference: A bundle's path, `RUN`, `RUN@best`, `RUN@last` or `RUN@STEP`.
        out: The file, which must not exist yet.
        prefer: What a bare `RUN` means.

    Returns:
        The bundle.

    Raises:
        BundleError: The bundle is not there or damaged, or the file is there or cannot be written.
    """
    found = find(reference, prefer=prefer)
    stored = Stored(found.path, verify_bundle(found.path), verified=True)
    if out.exists():
        raise BundleError(f"{out} exists already.", hint="Choose another --out, or remove it first.")
    # A network's own order of names, which safetensors does not keep.
    state = build_from(stored).state_dict()
    temporary = out.with_name(f".tmp-{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as opened:
            # Through a file object, as torch writes a file's name into it.
            torch.save(OrderedDict((name, tensor.contiguous()) for name, tensor in state.items()), opened)
            sync(opened.fileno(), opened.flush)
        temporary.rename(out)
        sync_directory(out.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BundleError(
            f"{out} cannot be written: {error.strerror or error}.", hint="Choose another --out."
        ) from error
    return stored


def _read_safetensors(path: Path) -> ForeignWeights:
    shapes = {name: Described(*what) for name, what in shapes_in(path).items()}
    if not shapes:
        raise BundleError(f"{path} holds no tensors.")

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        with safetensors.safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in names}

    return ForeignWeights(path, shapes, read)


def _check_archive(path: Path) -> None:
    """Looks at a zip file's list of contents before torch opens it."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{path} is a damaged or truncated file of torch.save: {error}.") from error
    names = {entry.filename.partition("/")[2]: entry for entry in entries}
    if "constants.pkl" in names:
        raise BundleError(
            f"{path} is a TorchScript archive: it holds a program, and cutaway runs none from a file.",
            hint="Where it comes from, save the weights: torch.save(torch.jit.load(FILE).state_dict(), OTHER).",
        )
    if "data.pkl" not in names:
        raise BundleError(f"{path} is a zip file that torch.save did not write.", hint=_SAVE_AGAIN)
    # torch.save compresses nothing. A file that does could be of any size in memory.
    held = sum(entry.file_size for entry in entries)
    if held > path.stat().st_size or names["data.pkl"].file_size > _LARGEST_PICKLE:
        raise BundleError(
            f"{path} would take far more memory than the file is large, which no file of torch.save does."
        )


def _load(path: Path, *, mapped: bool) -> object:
    try:
        with path.open("rb") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            # By its path alone can a file be mapped, but torch would go by what the path ends with.
            source = path if mapped and path.suffix != ".safetensors" else opened
            return torch.load(source, map_location="cpu", weights_only=True, mmap=source is path)
    except Exception as error:
        asked = _asked_for(path, str(error))
        if any(name.startswith("torch.nn.modules.") for name in asked):
            raise BundleError(
                f"{path} is a whole module, not its weights: reading it would run code of {_listed(asked)}.",
                hint=_SAVE_AGAIN,
            ) from error
        if asked:
            raise BundleError(
                f"{path} holds more than tensors: reading it would run {_listed(asked)}.", hint=_SAVE_AGAIN
            ) from error
        if "Unsupported operand" in str(error):
            raise BundleError(
                f"{path} was pickled in a way that torch's weights-only loading does not read.", hint=_SAVE_AGAIN
            ) from error
        raise BundleError(f"{path} is damaged, or no file of torch.save: {_first_line(error)}") from error


def _asked_for(path: Path, said: str) -> list[str]:
    """Names of the functions and classes that a pickle needs beyond tensors."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001 - files of before PyTorch 1.6 are no archives; the first name is in the message
        return re.findall(r"(?:GLOBAL|global:?) (?:GLOBAL )?([\w.]+\.\w+)", said)[:1]


def _state_dict_in(path: Path, content: object, key: str | None) -> ForeignWeights:
    places = dict(_places(content))
    if not places:
        raise BundleError(f"{path} holds no state dict.", hint=f"Its top level is {_described(content)}. {_SAVE_AGAIN}")
    if key is not None and key not in places:
        raise BundleError(f"{path} holds no weights under '{key}'.", hint=f"It has {_listed(map(_named, places))}.")
    chosen = _likeliest(path, places) if key is None else key
    state = places[chosen]
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise BundleError(
            f"Tensor '{odd[0]}' of {path} is sparse, quantized or without data, which no network here is."
        )

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        return {name: tensors[name].detach().contiguous() for name in names}

    return ForeignWeights(
        path,
        describe(tensors),
        read,
        key=chosen,
        other_keys=tuple(place for place in places if place != chosen),
        left_out=tuple(name for name in state if name not in tensors),
    )


def _places(content: object, at: str = "", depth: int = 0) -> list[tuple[str, Mapping[str, Any]]]:
    """Where there are mappings of names to tensors: their keys joined by dots, the whole being ''."""
    if not isinstance(content, Mapping) or depth > _DEEPEST or not all(isinstance(name, str) for name in content):
        return []
    inner = [
        place
        for name, value in content.items()
        if not name.startswith("optim")
        for place in _places(value, f"{at}.{name}" if at else name, depth + 1)
    ]
    # A checkpoint keeps a few tensors of its own beside the weights, and a state dict a few containers among them.
    if _num_tensors(content) > max((_num_tensors(mapping) for _, mapping in inner), default=0):
        return [(at, content)]
    return inner


def _num_tensors(mapping: Mapping[str, Any]) -> int:
    return sum(isinstance(value, Tensor) for value in mapping.values())


def _likeliest(path: Path, places: Mapping[str, object]) -> str:
    if len(places) == 1:
        return next(iter(places))
    for known in KNOWN_KEYS:
        for place in places:
            if known in (place, place.partition(".")[0]):
                return place
    raise BundleError(
        f"{path} holds weights in {len(places)} places: {_listed(places)}.", hint="Say which with --key NAME."
    )


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def _described(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary of {_listed(map(str, content))}" if content else "an empty dictionary"
    return f"a {type(content).__name__}"


def _named(place: str) -> str:
    return f"'{place}'" if place else "them at its top level"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
