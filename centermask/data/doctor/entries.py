# SPDX-License-Identifier: Apache-2.0
"""The entries of one split: ids, references and fields. What is sound goes on to the examination of masks and files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from centermask.data.doctor.findings import Findings

Entry = Mapping[str, Any]


@dataclass
class Entries:
    """One split. Of entries that share an id the first one counts."""

    split: str
    categories: dict[int, str]
    images: dict[int, Entry]  # those with a file name and a size
    annotations: dict[int, list[Entry]] = field(default_factory=dict)  # image id -> those of a known category

    def where(self, image_id: int, annotation: Entry | None = None) -> str:
        """For people: where an image or annotation is to be found."""
        image = f"{self.split}: image id {image_id} ({self.images[image_id]['file_name']})"
        if annotation is None:
            return image
        source = annotation.get("source")
        return f"{self.split}: {source}" if source else f"{image}, annotation id {annotation['id']}"


def check_entries(split: str, content: Mapping[str, Any], findings: Findings) -> Entries:
    """The sound entries of a COCO content; all others become findings."""
    categories = {
        key: str(entry.get("name", key)) for key, entry in _numbered(split, content, "categories", findings).items()
    }
    images = {
        key: entry
        for key, entry in _numbered(split, content, "images", findings).items()
        if _is_image(split, key, entry, findings)
    }
    _check_listed_once(split, images, findings)
    listed = {
        entry.get("id") for entry in content["images"] if isinstance(entry, dict) and isinstance(entry.get("id"), int)
    }
    entries = Entries(split, categories, images, {image_id: [] for image_id in images})
    for key, entry in _numbered(split, content, "annotations", findings).items():
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not isinstance(image_id, Hashable) or image_id not in listed:
            findings.add("unknown-image-id", f"{split}: annotation id {key} is of image id {image_id}")
        elif not isinstance(category_id, Hashable) or category_id not in categories:
            findings.add("unknown-category-id", f"{split}: annotation id {key} is of category id {category_id}")
        elif image_id in images:
            if entry.get("iscrowd", 0) not in (0, 1):
                findings.add("bad-crowd", entries.where(image_id, entry))
            entries.annotations[image_id].append(entry)
    for image_id, found in entries.annotations.items():
        if not found:
            findings.add("image-without-objects", entries.where(image_id))
    return entries


def _numbered(split: str, content: Mapping[str, Any], key: str, findings: Findings) -> dict[int, Entry]:
    singular = {"categories": "category", "images": "image", "annotations": "annotation"}[key]
    found: dict[int, Entry] = {}
    for entry in content[key]:
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int):
            findings.add("bad-entry", f"{split}: a {singular} without a whole number as 'id': {str(entry)[:60]}")
        elif number in found:
            findings.add(f"duplicate-{singular}-id", f"{split}: {singular} id {number}")
        else:
            found[number] = entry
    return found


def _is_image(split: str, image_id: int, entry: Entry, findings: Findings) -> bool:
    name, sizes = entry.get("file_name"), (entry.get("height"), entry.get("width"))
    if isinstance(name, str) and all(isinstance(size, int) and size > 0 for size in sizes):
        return True
    findings.add("bad-entry", f"{split}: image id {image_id} lacks 'file_name', or 'height' and 'width' above 0")
    return False


def _check_listed_once(split: str, images: Mapping[int, Entry], findings: Findings) -> None:
    first: dict[str, int] = {}
    for image_id, entry in images.items():
        name = entry["file_name"]
        if first.setdefault(name, image_id) != image_id:
            findings.add("image-listed-twice", f"{split}: {name} is image id {first[name]} and {image_id}")
