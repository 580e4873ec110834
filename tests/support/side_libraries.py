"""Libraries that are no requirement: their builds or versions do not fit those that others need.

`make test-long` installs them in a folder of their own, without what they require. Where that is missing, tests of them
are skipped.
"""

import os
import sys
from typing import Any

import pytest
import torch

FOLDER = "MASKDSL_SIDE_LIBRARIES"
"""The variable of the environment that names the folder."""
REASONS = {
    "timm": "timm needs torchvision, whose wheels cannot be imported beside a torch for CPUs",
    "trl": "trl needs datasets, of which no version fits the pinned fsspec and huggingface_hub",
}
OPERATORS = ("nms", "qnms")
"""Those of torchvision that its import describes, and that its wheel lacks beside a torch for CPUs."""


def side_library(name: str) -> Any:
    """The library, or the test or module is skipped with the reason why it is no requirement."""
    folder = os.environ.get(FOLDER)
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)
        if torch.version.cuda is None:
            for each in OPERATORS:
                torch.library.define(
                    f"torchvision::{each}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
    return pytest.importorskip(name, reason=f"{REASONS[name]}; `make test-long` installs it aside")
