"""Pictures on top of each other, with a line between them that can be moved."""

from __future__ import annotations

from collections.abc import Sequence

from vfi_cli.report.pictures import Picture
from vfi_cli.report.text import escaped

#: A small picture is shown enlarged, but not beyond this factor.
_ENLARGED = 3


def slider(pictures: Sequence[tuple[str, Picture]], caption: str = "") -> str:
    """Markup of a comparison of two or more pictures, each with its label.

    The first stands on the left of the line and the last on its right; with more than two,
    each side has a list to choose from. The line follows pointer, touch and arrow keys.
    """
    if len(pictures) < 2:
        raise ValueError("a comparison takes two pictures or more")
    width, height = pictures[0][1].width, pictures[0][1].height
    images = "".join(
        f'<img class="{_side(number, len(pictures))}" src="{picture.uri}" alt="{escaped(label)}" '
        f'width="{picture.width}" height="{picture.height}" draggable="false">'
        for number, (label, picture) in enumerate(pictures)
    )
    first, last = escaped(pictures[0][0]), escaped(pictures[-1][0])
    return (
        f'<figure class="slider" style="max-width:{width * _ENLARGED}px">'
        f'<div class="stage" style="aspect-ratio:{width}/{height}">{images}'
        f'<div class="handle" role="slider" tabindex="0" aria-orientation="horizontal" '
        f'aria-label="Border between {first} and {last}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"></div></div>'
        f'<div class="sides">{_labels(pictures)}</div>'
        + (f"<figcaption>{escaped(caption)}</figcaption>" if caption else "")
        + "</figure>"
    )


def _side(number: int, count: int) -> str:
    return "left" if number == 0 else "right" if number == count - 1 else "aside"


def _labels(pictures: Sequence[tuple[str, Picture]]) -> str:
    labels = [escaped(label) for label, _ in pictures]
    if len(labels) == 2:
        return f"<span>{labels[0]}</span><span>{labels[1]}</span>"
    return _choice("left", labels, 0) + _choice("right", labels, len(labels) - 1)


def _choice(side: str, labels: Sequence[str], chosen: int) -> str:
    options = "".join(
        f'<option value="{number}"{" selected" if number == chosen else ""}>{label}</option>'
        for number, label in enumerate(labels)
    )
    return f'<select data-side="{side}" aria-label="Picture on the {side}">{options}</select>'
