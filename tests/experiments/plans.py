"""A plan of the experiment on small objects, for tests that need one."""

from __future__ import annotations

from experiments.small_objects.plan import Plan

PLAN = Plan(
    data="made", folder="/data/made", width="1/8", weights="ssd.caffemodel", iterations=1200, points=4, batch=8,
    base_lr=0.0005, augmentation="mirror", gpu="none", precision="fp32",
)  # fmt: skip
