"""How a native function becomes a PyTorch operator.

`torch.library.custom_op` would do the same, but its first call imports the compiler, which takes longer than to build a
net and run it. This needs no compiler, and leaves the function out of compilation once there is one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

R = TypeVar("R")
_library = torch.library.Library("caffe", "FRAGMENT")


def operator(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Makes a function of tensors the operator `torch.ops.caffe.<name>`, which is returned in its place.

    The function must not change its arguments, nor return one. Its annotations are the operator's schema.
    `register_fake` and `register_autograd` add what tracing and gradients need.
    """

    def register(function: Callable[..., R]) -> Callable[..., R]:
        _library.define(name + torch.library.infer_schema(function, mutates_args=()))
        _library.impl(name, _not_compiled(function), "CompositeExplicitAutograd")
        return cast(Callable[..., R], getattr(torch.ops.caffe, name).default)

    return register


def register_fake(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """The function gives the operator's outputs for tensors without values: shapes, types, memory formats."""
    register: Callable[[Callable[..., R]], Callable[..., R]] = torch.library.register_fake(
        f"caffe::{name}", lib=_library
    )
    return register


def register_autograd(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """The operator's gradient, as in torch.library.register_autograd."""
    torch.library.register_autograd(f"caffe::{name}", backward, setup_context=setup_context, lib=_library)


def _not_compiled(function: Callable[..., R]) -> Callable[..., R]:
    disabled: Callable[..., R] | None = None

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> R:
        nonlocal disabled
        if disabled is None:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return run
