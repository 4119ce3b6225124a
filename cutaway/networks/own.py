"""Networks that are a person's own: handed in as objects, or made by a factory in a module that the person allows."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import re
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.errors import CutawayError, NetworkError
from cutaway.networks.spec import NetworkSpec

FACTORY = "python:"
OBJECT = "own:"
_FACTORY_NAME = re.compile(r"python:(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<factory>[^\W\d]\w*(\.[^\W\d]\w*)*)")

Network = nn.Module | Callable[..., nn.Module]
"""A module, or what makes one: a class or function. Of `num_classes`, `input_shape` and the network's arguments, it is
given by name those that it takes."""


@dataclass(frozen=True)
class OwnCode:
    """What may be run beside the registry's networks. A bundle or a settings file alone never chooses code to run.

    Attributes:
        network: A network of the person's own, taken whatever the name in the bundle is; never changed, but copied.
        allowed: Modules whose factories `python:module:factory` may be imported, or packages that hold them.
    """

    network: Network | None = None
    allowed: tuple[str, ...] = ()

    def make(self, spec: NetworkSpec) -> nn.Module:
        """The network in training mode, on the CPU, checked to take the input and to give a score for each class.

        Raises:
            NetworkError: There is neither network nor permission, or it is not what `spec` says.
        """
        made = self._made(spec)
        _check_runs(made, spec)
        return made.train()

    def _made(self, spec: NetworkSpec) -> nn.Module:
        if isinstance(self.network, nn.Module):
            if spec.arguments:
                raise NetworkError("network_arguments are for networks that are built, and this one is built already.")
            try:
                return copy.deepcopy(self.network).cpu()
            except (RuntimeError, TypeError) as error:
                raise NetworkError(
                    f"{spec.name} cannot be copied: {error}.", hint="Hand in its class or a function that builds it."
                ) from error
        return _built(self.network if self.network is not None else _imported(spec.name, self.allowed), spec)


def is_own(name: str) -> bool:
    """Whether a network's name stands for code of a person's own."""
    return name.startswith((FACTORY, OBJECT))


def name_of(network: Network) -> str:
    """What a bundle calls a network that was handed in: `python:module:factory` where that finds it, else `own:…`."""
    named = type(network) if isinstance(network, nn.Module) else network
    module = getattr(named, "__module__", type(named).__module__)
    name = getattr(named, "__qualname__", type(named).__qualname__)
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    importable = found is network and module != "__main__"
    return f"{FACTORY}{module}:{name}" if importable else f"{OBJECT}{module}.{name}"


def _imported(name: str, allowed: tuple[str, ...]) -> Callable[..., nn.Module]:
    if name.startswith(OBJECT):
        raise NetworkError(
            f"The network {name.removeprefix(OBJECT)} is no name to build from but an object in somebody's Python.",
            hint="Hand it in again, as in restore(reference, network=…) and train(settings, network=…). The "
            "command line can build one again that was trained by name: --network python:MODULE:FACTORY "
            "--allow-code MODULE.",
        )
    parts = _FACTORY_NAME.fullmatch(name)
    if parts is None:
        raise NetworkError(f"'{name}' is not the name of a factory.", hint="Write python:package.module:factory.")
    module, factory = parts["module"], parts["factory"]
    if not _permits(allowed, module):
        raise NetworkError(
            f"The network {name} would run Python code of the module '{module}', which was not allowed.",
            hint=f"If you trust that module, allow it: --allow-code {module}, or in Python allow_code=['{module}']; "
            "or hand the network in again as network=….",
        )
    try:
        found: object = importlib.import_module(module)
        for part in factory.split("."):
            found = getattr(found, part)
            _check_belongs(found, name, allowed)
    except CutawayError:
        raise
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"The network {name} cannot be imported: {error}.",
            hint="Start Python where the module lies, or put its folder on PYTHONPATH.",
        ) from error
    except Exception as error:
        raise _failed(f"The module {module} cannot be imported", error) from error
    if not callable(found):
        raise NetworkError(f"{name} is no factory but a {type(found).__name__}.")
    return found


def _check_belongs(found: object, name: str, allowed: tuple[str, ...]) -> None:
    """Refuses what an allowed module has only imported: by `torch.os.system` a bundle could run anything.

    A name that leads through dunders leads there too. A `partial` belongs where its function does.
    """
    written_in: object = found
    if isinstance(found, functools.partial | types.MethodType):
        written_in = found.func if isinstance(found, functools.partial) else found.__func__
    home = written_in.__name__ if isinstance(written_in, types.ModuleType) else _home(written_in)
    hidden = any(part.startswith("__") for part in name.rpartition(":")[2].split("."))
    if hidden or isinstance(found, types.ModuleType) or not _permits(allowed, home):
        raise NetworkError(
            f"The network {name} would run code of '{home}', which the module only imports.",
            hint="Name a factory that the module defines itself, or the module that does.",
        )


def _home(found: object) -> str:
    """The module that a function or class is written in, or an object's class."""
    home = getattr(found, "__module__", None)
    return home if isinstance(home, str) else type(found).__module__


def _permits(allowed: tuple[str, ...], module: str) -> bool:
    return any(module == permitted or module.startswith(permitted + ".") for permitted in allowed)


def _built(factory: Callable[..., nn.Module], spec: NetworkSpec) -> nn.Module:
    known = {"num_classes": spec.num_classes, "input_shape": spec.input_shape}
    takes: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # such as of a class written in C
        takes = inspect.signature(factory).parameters
    unknown = [name for name in spec.arguments if name not in takes]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        raise NetworkError(f"{spec.name} has no argument '{unknown[0]}'.")
    try:
        made = factory(**{name: value for name, value in known.items() if name in takes}, **spec.arguments)
    except CutawayError:
        raise
    except Exception as error:
        raise _failed(f"The factory {spec.name.partition(':')[2]} failed", error) from error
    if not isinstance(made, nn.Module):
        raise NetworkError(f"{spec.name} gave no nn.Module but a {type(made).__name__}.")
    return made.cpu()


def _failed(
    what: str, error: Exception, unless_theirs: str = "Does it take the arguments that it is given, and no more?"
) -> NetworkError:
    """What a person's own code raised, and where, which they would look for in a traceback."""
    # A KeyError shows its key as Python writes it.
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    not_theirs = (__file__, str(Path(torch.__file__).parent))
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(not_theirs)]
    if isinstance(error, SyntaxError):
        hint = f"See {error.filename}, line {error.lineno}."
    elif theirs:
        hint = f"See {theirs[-1].filename}, line {theirs[-1].lineno}."
    else:  # it was never entered
        hint = unless_theirs
    return NetworkError(
        f"{what}: {type(error).__name__}{f': {said}' if said else ''}".rstrip(".") + ".",
        hint=hint,
    )


def _check_runs(network: nn.Module, spec: NetworkSpec) -> None:
    """Sends two black pictures through, which gives lazy layers their shapes too."""
    channels, height, width = spec.input_shape
    asked = f"two pictures of {height}x{width} pixels and {channels} channel{'s' if channels > 1 else ''}"
    try:
        with torch.no_grad():
            output = network.eval()(torch.zeros(2, *spec.input_shape))
    except CutawayError:
        raise
    except Exception as error:
        raise _failed(
            f"{spec.name} cannot take {asked}", error, "Do its layers fit each other and this input?"
        ) from error
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.shape != (2, spec.num_classes):
        gave = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(output).__name__}"
        raise NetworkError(
            f"{spec.name} answers two pictures with {gave}, and not with logits of the shape [2, {spec.num_classes}].",
            hint=f"Its last layer should have an output for each of the {spec.num_classes} classes."
            if isinstance(logits, Tensor) and logits.dim() == 2
            else "Let its forward return the logits alone, a row for each picture.",
        )
