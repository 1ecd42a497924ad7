"""MDSSD300 training from an LMDB on a GPU, batch 32, bf16 on CUDA graphs: does the data path keep the device busy?

Images a second of the data workers alone (SSD's whole augmentation), of the device alone (the same batch again and
again), and of real training, for several numbers of workers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cpu_annotated_data import PHOTOGRAPHS, write_database
from google.protobuf import text_format
from gpu_training import SOLVER, step_time
from on_gpu import MODELS, need_gpu, training_batch, training_net
from report import write_result

from caffe.engine import acceleration
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net
from caffe.solver.solver import Solver

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="directory of JPEGs")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8, 16], help="numbers of workers")
    parser.add_argument("--iterations", type=int, default=60, help="iterations to time (default: 60)")
    args = parser.parse_args()
    need_gpu()
    acceleration.use("bf16", graph=True)
    figures: dict[str, Any] = {"what": "images a second, MDSSD300 training, batch 32, bf16, CUDA graphs"}
    net = training_net("MDSSD300", BATCH)
    figures["device alone"] = round(BATCH / step_time(net, training_batch(net), graph=True) * 1e3, 1)
    print(f"device alone: {figures['device alone']}", flush=True)
    del net
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "db"
        figures["images"] = write_database(database, args.photographs, 500)
        for workers in args.workers:
            alone, together = rates(database, workers, args.iterations)
            print(f"{workers} workers: alone {alone:.0f}, with training {together:.0f}", flush=True)
            figures[f"{workers} workers"] = {"alone": round(alone, 1), "with training": round(together, 1)}
    write_result("gpu_fed_training", figures)


def rates(database: Path, workers: int, iterations: int) -> tuple[float, float]:
    """Images a second of the net's data layer by itself, and of iterations of a solver."""
    os.environ["CAFFE_DATA_WORKERS"] = str(workers)
    solver = Solver(solver_param(database))
    net = solver.net
    alone = timed(net.next_batch, iterations)
    together = timed(lambda: solver.step(1), iterations)
    net.close()
    return alone, together


def solver_param(database: Path) -> Any:
    param = text_format.Parse(SOLVER + ' base_lr: 1e-6 lr_policy: "fixed" random_seed: 1', caffe_pb2.SolverParameter())
    param.net_param.CopyFrom(read_net(MODELS / "MDSSD300" / "VOC" / "train.prototxt"))
    data = next(layer for layer in param.net_param.layer if layer.type == "AnnotatedData")
    data.data_param.source, data.data_param.batch_size = str(database), BATCH
    data.annotated_data_param.ClearField("label_map_file")
    return param


def timed(run: Any, iterations: int) -> float:
    for _ in range(8):  # what was prepared before the clock started, and the recording of a graph
        run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(iterations):
        run()
    torch.cuda.synchronize()
    return BATCH * iterations / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
