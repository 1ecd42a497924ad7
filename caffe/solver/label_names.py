"""The names of a net's classes, from the label map that its layers name."""

from __future__ import annotations

from caffe.data.label_map import LabelMap
from caffe.engine.net import Net
from caffe.errors import CaffeError


class LabelNames:
    """Names by label. A net that names no label map, or one that cannot be read, has `class1`, `class2`, …"""

    def __init__(self, net: Net) -> None:
        self._map: LabelMap | None = None
        for step in net.steps:
            param = step.layer.param
            for path in (
                param.detection_output_param.save_output_param.label_map_file,
                param.annotated_data_param.label_map_file,
            ):
                if path and self._map is None:
                    try:
                        self._map = LabelMap.read(path)
                    except CaffeError:
                        continue

    @property
    def known(self) -> bool:
        """Whether there is a label map."""
        return self._map is not None

    def of(self, label: int) -> str:
        """The name of a label."""
        return self._map.display_name_of(label) if self._map is not None and label in self._map else f"class{label}"
