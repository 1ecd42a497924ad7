"""From files and databases to batches: label maps, annotations, records, augmentation, sources."""

import os

from caffe.data.image_header import MAX_PIXELS

# OpenCV reads its own limit when it is loaded; a billion pixels, its default, are three gigabytes.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
