# SPDX-License-Identifier: Apache-2.0
"""What the doctor can find, how bad it is and what to do about it: one table.

error    the data set is refused when it is opened, or what is measured on it is wrong
warning  it can be used, but hardly as meant
hint     worth a look; often as it should be
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from centermask.data.checks import OnFault

EXAMPLES = 5  # kept of each kind


class Severity(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True)
class Kind:
    severity: Severity
    says: str
    advice: str


_ERROR, _WARNING, _HINT = Severity.ERROR, Severity.WARNING, Severity.HINT

KINDS = {
    "bad-entry": Kind(_ERROR, "entries without the fields they need", "export the annotations again"),
    "duplicate-category-id": Kind(_ERROR, "category ids given twice", "number the categories anew"),
    "duplicate-image-id": Kind(_ERROR, "image ids given twice", "number the images anew, also in their annotations"),
    "duplicate-annotation-id": Kind(_ERROR, "annotation ids given twice", "number the annotations anew"),
    "unknown-image-id": Kind(_ERROR, "annotations of images that are not listed", "add the images or remove these"),
    "unknown-category-id": Kind(_ERROR, "annotations of categories that are not listed", "add the categories"),
    "image-listed-twice": Kind(_WARNING, "one file under several image ids", "join the entries, else objects are lost"),
    "missing-image": Kind(_ERROR, "image files that are not there", "copy them, or remove their entries"),
    "unreadable-image": Kind(_ERROR, "files that are no images", "save them again as PNG or JPEG"),
    "truncated-image": Kind(_ERROR, "images that are damaged or cut short", "copy or download them again"),
    "size-mismatch": Kind(_ERROR, "images of another size than annotated", "annotate the files as they are stored"),
    "exif-rotation": Kind(
        _WARNING, "images with an EXIF turn", "masks are taken on the stored pixels: save the images upright"
    ),
    "duplicate-image": Kind(_WARNING, "files of the same content in one split", "keep one of them"),
    "leakage": Kind(_ERROR, "the same image in several splits", "remove it from one: its AP is not to be believed"),
    "near-duplicate": Kind(_HINT, "nearly equal images in several splits", "look at the pairs: put both in one split"),
    "box-only": Kind(_ERROR, "objects with a box and no mask", "export as segmentation: masks are what is learned"),
    "bad-label-line": Kind(_ERROR, "label lines that cannot be read", "export the labels again"),
    "empty-segmentation": Kind(_ERROR, "objects without a mask", "draw their outlines, or remove them"),
    "short-polygon": Kind(_ERROR, "polygons under 3 points", "remove the part, or draw it again"),
    "bad-polygon": Kind(_ERROR, "polygons that are no flat list of numbers", "export the annotations again"),
    "self-crossing-polygon": Kind(
        _WARNING, "outlines that cross themselves", "draw them again: what is inside is a matter of the reader"
    ),
    "rle-size": Kind(_ERROR, "run lengths of another size than the image", "export the masks at the image's size"),
    "damaged-rle": Kind(_ERROR, "run lengths that cannot be decoded", "export the masks again"),
    "zero-area-mask": Kind(_WARNING, "masks without a pixel: never an object", "remove them, or draw them again"),
    "bad-crowd": Kind(_ERROR, "'iscrowd' that is neither 0 nor 1", "write 0, or 1 for a region of many objects"),
    "bad-box": Kind(_ERROR, "'bbox' that is not four finite numbers", "leave it out: boxes are taken from the masks"),
    "box-mask-mismatch": Kind(_WARNING, "boxes that do not fit their masks", "often x1 y1 x2 y2 in place of x y w h"),
    "area-mismatch": Kind(_WARNING, "'area' unlike the mask's", "it sorts objects into APs, APm, APl: compute it anew"),
    "outside-image": Kind(_ERROR, "objects outside of their image", "check the image id and the units"),
    "beyond-image": Kind(_WARNING, "objects that reach beyond their image", "clip them; check the image's size"),
    "duplicate-object": Kind(_WARNING, "two annotations of one object", "keep one: both would be a peak in one place"),
    "image-without-objects": Kind(_HINT, "images without annotations", "right for backgrounds, wrong if forgotten"),
    "class-lists-differ": Kind(_ERROR, "splits with different categories", "give all splits the same categories"),
    "class-unused": Kind(_WARNING, "classes without any object", "remove them from the categories"),
    "class-missing": Kind(_WARNING, "classes that a split lacks", "split anew: they cannot be learned or measured"),
    "class-rare": Kind(_HINT, "classes of few objects to learn from", "collect more, or join classes"),
}  # fmt: skip


@dataclass
class Finding:
    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity


class Findings:
    """Counts of each kind, with the first few examples."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, kind: str, example: str) -> None:
        assert kind in KINDS, kind
        finding = self._found.setdefault(kind, Finding(kind))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def of_split(self, name: str) -> OnFault:
        """Returns what becomes of a fault in a split: a finding that begins with the split's name."""
        return lambda fault: self.add(fault.kind, f"{name}: {fault.sentence}")

    def __iter__(self) -> Iterator[Finding]:
        """Gives the worst first, else in the order of KINDS."""
        order = list(Severity)
        places = list(KINDS)
        return iter(sorted(self._found.values(), key=lambda one: (order.index(one.severity), places.index(one.kind))))

    def count(self, severity: Severity) -> int:
        return sum(one.count for one in self._found.values() if one.severity is severity)
