"""The architectures that a checkpoint can hold, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from torch import Tensor

from vfi_cli.models.base import Network

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """How one published architecture is told from the others, and built.

    ``matches`` looks at the keys and shapes of a canonical state dict (without the keys that
    start with ``training_only``) and is cheap and exact enough to tell the family's members
    apart; it may let through files with a key too many or too few, which loading then names.
    ``build`` reads the hyperparameters off the shapes and returns the network, not yet loaded.
    ``prototype`` returns the network as published; its keys are compared with those of a file
    that nothing matches, to name the nearest architecture.
    """

    name: str
    matches: Callable[[StateDict], bool]
    build: Callable[[StateDict], Network]
    prototype: Callable[[], Network]
    description: str = ""
    licence: str | None = None
    #: Prefixes of keys that training needs and inference does not (a teacher's block).
    training_only: tuple[str, ...] = ()
    #: Has the keys and shapes of another architecture: only ``architecture=`` chooses it.
    explicit: bool = False


class Registry:
    """Architectures in order; a name that is taken is an error."""

    def __init__(self) -> None:
        self._known: dict[str, Architecture] = {}

    def add(self, *architectures: Architecture) -> None:
        for architecture in architectures:
            if architecture.name in self._known:
                raise ValueError(f"there already is an architecture {architecture.name!r}")
            self._known[architecture.name] = architecture

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self._known.values())

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> Architecture:
        return self._known[name]

    def names(self) -> list[str]:
        return list(self._known)


#: Modules of this package that have an ``ARCHITECTURES`` tuple, in the order of detection.
FAMILIES: tuple[str, ...] = ("rife", "lite", "rife4", "ifrnet", "rrin", "scopeflow", "eqvi")


@cache
def registry() -> Registry:
    """All architectures of all families."""
    known = Registry()
    for family in FAMILIES:
        known.add(*import_module(f"vfi_cli.models.{family}").ARCHITECTURES)
    return known
