"""Hoiem, Chodpathumwan and Dai's analysis of detectors ("Diagnosing Error in Object Detectors", ECCV 2012).

It tells what a detector's score depends on (size and aspect ratio of the objects) and what its false positives are. The
MDSSD paper's Table IV and Figures 6 and 9 come from it. `diagnose` computes it from detections and ground truth:

    truth = voc.read_ground_truth(annotations, image_list)
    found = {name: voc.read_detections(path) for name, path in voc.find_result_files(folder).items()}
    classes = diagnose(truth, found)
    classes["cat"].size[0].average_precision  # of the extra-small cats

The numbers are those of the authors' own program. `matching.py` tells where its rules differ from the VOC kit's.
"""

from caffe.detection.hoiem.analysis import (
    LEAST_OBJECTS,
    OBJECTS_PER_IMAGE,
    ClassDiagnosis,
    GroupScore,
    as_json,
    diagnose,
    impact,
)
from caffe.detection.hoiem.groups import SIZES
from caffe.detection.hoiem.similar_classes import SimilarClasses

__all__ = [
    "LEAST_OBJECTS",
    "OBJECTS_PER_IMAGE",
    "SIZES",
    "ClassDiagnosis",
    "GroupScore",
    "SimilarClasses",
    "as_json",
    "diagnose",
    "impact",
]
