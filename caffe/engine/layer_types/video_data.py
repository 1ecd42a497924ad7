"""VideoData: the frames of a video file or a camera."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.augment.boxes import Boxes
from caffe.data.augment.transform import Source, Transformer
from caffe.data.feed.stream import layer_seed, record_rng
from caffe.engine.layer import Shape, SourceLayer, register
from caffe.errors import DataError, EndOfData
from caffe.proto import caffe_pb2

_WEBCAM = caffe_pb2.VideoDataParameter.WEBCAM


def _frames_of(capture: cv2.VideoCapture) -> Iterator[NDArray[Any]]:
    while True:
        more, frame = capture.read()
        if not more:
            return
        yield frame


@register
class VideoData(SourceLayer):
    """Frames in their order, skip_frames are skipped before each one that is used. Tops: data [N, 3, h, w], label [N]
    of zeros.

    If a video has too few frames left for a batch, forward raises EndOfData, which ends `caffe test`. (The
    original sends itself an interrupt there.)
    """

    type_name = "VideoData"
    tops = (1, 2)
    _capture: cv2.VideoCapture | None = None

    def setup(self, bottom: Sequence[Shape]) -> None:
        self._video = self.param.video_data_param
        size = self.param.data_param.batch_size
        if size < 1:
            self.fail("data_param needs a batch_size over 0")
        if self._video.video_type != _WEBCAM and not self._video.video_file:
            self.fail("video_data_param needs a video_file, or video_type: WEBCAM")
        self._transformer = Transformer(self.param.transform_param, self.phase, self.where)
        self._seed = layer_seed()
        shape = self._transformer.shape(*self._open().shape)
        self._data_shape: Shape = (size, *shape)
        log.info("video_data_layer.cpp:72", f"output data size: {size},{shape[0]},{shape[1]},{shape[2]}")

    @property
    def _name(self) -> str:
        camera = self._video.video_type == _WEBCAM
        return f"camera {self._video.device_id}" if camera else f"video '{self._video.video_file}'"

    def _open(self) -> NDArray[Any]:
        """Starts over; returns the first frame, which is then the next."""
        self.close()
        source = self._video.device_id if self._video.video_type == _WEBCAM else self._video.video_file
        self._capture = cv2.VideoCapture(source)
        self._read = 0
        frames = _frames_of(self._capture)
        for first in frames:
            self._frames = itertools.chain([first], frames)
            return first
        self.close()
        self.fail(f"{self._name} cannot be opened, or OpenCV cannot decode its frames")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._data_shape[:1]][: len(self.param.top)]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data = torch.empty(self._data_shape)
        for item in range(self._data_shape[0]):
            data[item] = torch.from_numpy(self._next())
        return (data, torch.zeros(self._data_shape[0]))[: len(self.param.top)]

    def _next(self) -> NDArray[np.float32]:
        for _ in range(self._video.skip_frames):
            self._next_frame()
        frame = self._next_frame()
        no_boxes: Boxes | None = None
        source = Source(frame, f"frame {self._read - 1} of {self._name}")
        data, _ = self._transformer(source, no_boxes, record_rng(self._seed, 0, self._read - 1))
        if data.shape != self._data_shape[1:]:
            raise DataError(f"{source.where} is {data.shape}, but the first one was {self._data_shape[1:]}")
        return data

    def _next_frame(self) -> NDArray[Any]:
        for frame in self._frames:
            self._read += 1
            return frame
        raise EndOfData(f"layer '{self.name}': {self._name} has ended after {self._read} frames")

    def record_keys(self, batches: int = 1) -> list[str]:
        size, step = self._data_shape[0], self._video.skip_frames + 1
        stop = max(self._read // step, size)
        return [f"frame {(taken + 1) * step - 1}" for taken in range(max(0, stop - batches * size), stop)]

    def start_at(self, batch: int) -> None:
        if self._video.video_type == _WEBCAM:
            return
        self._open()
        passed = batch * self._data_shape[0] * (self._video.skip_frames + 1)
        self._read = sum(1 for _ in itertools.islice(self._frames, passed))

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
