"""Hoiem, Chodpathumwan and Dai's analysis of detectors ("Diagnosing Error in Object Detectors", ECCV 2012).

The analysis shows how a detector's score depends on the size and aspect ratio of the objects, and what its false
positives are. Table IV and Figures 6 and 9 of the MDSSD paper are made with it. `diagnose` computes it from detections
and ground truth:

    truth = voc.read_ground_truth(annotations, image_list)
    found = {name: voc.read_detections(path) for name, path in voc.find_result_files(folder).items()}
    classes = diagnose(truth, found)
    classes["cat"].size[0].average_precision  # AP_N of the extra-small cats

The numbers equal those of the authors' own program. `matching.py` explains how its rules differ from the VOC kit's.
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
from caffe.detection.hoiem.groups import ASPECTS, SIZES
from caffe.detection.hoiem.labeling import Labeled, label
from caffe.detection.hoiem.matching import ObjectTable
from caffe.detection.hoiem.similar_classes import SimilarClasses

__all__ = [
    "ASPECTS",
    "LEAST_OBJECTS",
    "OBJECTS_PER_IMAGE",
    "SIZES",
    "ClassDiagnosis",
    "GroupScore",
    "Labeled",
    "ObjectTable",
    "SimilarClasses",
    "as_json",
    "diagnose",
    "impact",
    "label",
]
