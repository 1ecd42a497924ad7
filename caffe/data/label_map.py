"""Label maps: the classes of a data set, their names in annotations and the labels that nets learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from caffe.errors import DataError, ProtoError, shown
from caffe.files import decoded
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text

#: a label map of a million classes is a mistake, not a data set
_MAX_LABEL = 1_000_000


@dataclass(frozen=True)
class LabelMapItem:
    """One class: `name` as annotations write it, `label` as the net counts it, `display_name` as people read it."""

    name: str
    label: int
    display_name: str


class LabelMap:
    """The classes of a data set (Caffe's LabelMap message), background included if the file lists it."""

    def __init__(self, items: Iterable[LabelMapItem], where: str = "label map") -> None:
        self.items = tuple(sorted(items, key=lambda item: item.label))
        self.where = where
        self._by_name = {item.name: item for item in self.items}
        self._by_label = {item.label: item for item in self.items}

    @classmethod
    def read(cls, path: str | Path, *, strict: bool = True) -> LabelMap:
        """Reads a LabelMap prototxt. Raises DataError if it is not one, or has a class or (if strict) a label twice.

        A file that gives several labels to one name is always refused, because an annotation would have no unique
        label.
        """
        try:
            text = decoded(Path(path).read_bytes())
        except OSError as error:
            raise DataError(
                f"cannot read label map '{path}': {error.strerror}. It is a prototxt of items, as "
                'item { name: "cat" label: 1 display_name: "cat" }'
            ) from None
        except UnicodeDecodeError:
            raise DataError(f"label map '{path}' is not a text file") from None
        return cls.parse(text, str(path), strict=strict)

    @classmethod
    def parse(cls, text: str, where: str, *, strict: bool = True) -> LabelMap:
        """A label map from prototxt text; `where` names it in messages."""
        message = caffe_pb2.LabelMap()
        try:
            parse_text(text, message, where)
        except ProtoError as error:
            raise DataError(f"label map '{where}' is not a LabelMap prototxt: {error}") from None
        return cls.from_proto(message, where, strict=strict)

    @classmethod
    def from_proto(cls, message: Any, where: str, *, strict: bool = True) -> LabelMap:
        """A label map from a LabelMap message, checked as `read` says."""
        if not message.item:
            raise DataError(f"label map '{where}' has no item")
        items: list[LabelMapItem] = []
        names: dict[str, int] = {}
        labels: dict[int, str] = {}
        for number, entry in enumerate(message.item):
            if not entry.HasField("name") or not entry.HasField("label"):
                raise DataError(f"label map '{where}': item {number} needs a name and a label")
            name, label = entry.name, entry.label
            if not 0 <= label <= _MAX_LABEL:
                raise DataError(
                    f"label map '{where}': label {label} of '{shown(name)}' is not between 0 and {_MAX_LABEL}"
                )
            if name in names and (strict or names[name] != label):
                raise DataError(
                    f"label map '{where}': name '{shown(name)}' is given to label {names[name]} and {label}"
                )
            if strict and label in labels:
                raise DataError(
                    f"label map '{where}': label {label} is given to '{shown(labels[label])}' and '{shown(name)}'"
                )
            names[name], labels[label] = label, name
            items.append(LabelMapItem(name, label, entry.display_name or name))
        return cls(items, where)

    @cached_property
    def num_classes(self) -> int:
        """The number of classes of a net for this map, background (label 0) included."""
        return max(1, *(item.label + 1 for item in self.items))

    @cached_property
    def names(self) -> list[str]:
        """The names in order of their labels, background included if the file lists it."""
        return [item.name for item in self.items]

    def label_of(self, name: str) -> int | None:
        """The label of a name in an annotation; None if the map does not have it."""
        item = self._by_name.get(name)
        return None if item is None else item.label

    def name_of(self, label: int) -> str:
        """The name of a label; raises DataError if the map does not have it."""
        return self._item(label).name

    def display_name_of(self, label: int) -> str:
        """What to show for a label; raises DataError if the map does not have it."""
        return self._item(label).display_name

    def __contains__(self, label: int) -> bool:
        return label in self._by_label

    def _item(self, label: int) -> LabelMapItem:
        if label not in self._by_label:
            raise DataError(f"label {label} is not in label map '{self.where}' (labels {self.describe_labels()})")
        return self._by_label[label]

    def describe_labels(self) -> str:
        """The labels in words, e.g. '0 to 20'."""
        labels = sorted(self._by_label)
        if labels == list(range(labels[0], labels[-1] + 1)):
            return f"{labels[0]} to {labels[-1]}"
        return ", ".join(map(str, labels))

    def to_proto(self) -> Any:
        """The LabelMap message."""
        message = caffe_pb2.LabelMap()
        for item in self.items:
            message.item.add(name=item.name, label=item.label, display_name=item.display_name)
        return message


class AnyName(LabelMap):
    """Takes every name and every label. `seen` are the names in the order in which they came, which are their labels."""

    def __init__(self) -> None:
        super().__init__((), "names in the annotations")
        self.seen: list[str] = []

    def label_of(self, name: str) -> int:
        if name not in self.seen:
            self.seen.append(name)
        return self.seen.index(name)

    def __contains__(self, label: int) -> bool:
        return True
