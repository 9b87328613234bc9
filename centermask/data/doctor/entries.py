# SPDX-License-Identifier: Apache-2.0
"""The entries of one split as the doctor sees them: the sound ones, and what is odd about their lists."""

from __future__ import annotations

from dataclasses import dataclass

from centermask.data.checks import Content, Entries, Entry, check_entries, place_of
from centermask.data.doctor.findings import Findings


@dataclass(frozen=True)
class SplitEntries:
    """The sound entries of one split; its name is the first word of each finding about them."""

    name: str
    entries: Entries

    def where(self, image_id: int, annotation: Entry | None = None) -> str:
        """Tells people where an image or annotation is to be found."""
        return f"{self.name}: {place_of(self.entries.images[image_id], annotation)}"


def examine_entries(name: str, content: Content, findings: Findings) -> SplitEntries:
    """Returns the sound entries of a split's COCO content; all others become findings."""
    split = SplitEntries(name, check_entries(content, findings.of_split(name)))
    first: dict[str, int] = {}
    for image_id, image in split.entries.images.items():
        file = image["file_name"]
        if first.setdefault(file, image_id) != image_id:
            findings.add("image-listed-twice", f"{name}: {file} is image id {first[file]} and {image_id}")
    for image_id, found in split.entries.annotations.items():
        if not found:
            findings.add("image-without-objects", split.where(image_id))
    return split
