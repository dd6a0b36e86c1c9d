"""Degradations to score under, equal for everybody: their settings never change, and keys come from the images' names."""

from __future__ import annotations

from typing import Literal, get_args

from srdist.degradations.config import DEGRADATION
from srdist.degradations.section import DegradationSection

Strength = Literal["mild", "medium", "strong"]
STRENGTHS: tuple[Strength, ...] = get_args(Strength)


def fixed(strength: Strength) -> DegradationSection:
    """One of the three.

    mild: a careful photographer's file, reduced once; medium: a file of the web, second order by the preset `web`;
    strong: Real-ESRGAN's training ranges, the preset `photo`.
    """
    match strength:
        case "mild":
            return DEGRADATION.validate_python(
                {
                    "kind": "chain",
                    "stages": [
                        {
                            "kind": "blur",
                            "probability": 0.5,
                            "sinc": 0.0,
                            "side": [5, 7],
                            "sigma": [0.2, 0.8],
                        },
                        {"kind": "kernel", "kernel": "bicubic"},
                        {"kind": "noise", "probability": 0.3, "sigma": [0.5, 2.0], "poisson": [0.02, 0.1]},
                        {"kind": "jpeg", "quality": [75, 95]},
                    ],
                }
            )
        case "medium":
            return DEGRADATION.validate_python({"kind": "second_order", "preset": "web"})
        case "strong":
            return DEGRADATION.validate_python({"kind": "second_order", "preset": "photo"})
