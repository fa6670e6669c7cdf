"""Which family the weights of open_clip belong to, and their licence. Nothing here imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Weights that were trained by the same people on the same data.

    Args:
        licence: of the weights, as their model cards state it.
        matches: a pattern of ARCH,TAG; the first family that matches counts.
    """

    name: str
    licence: str
    matches: str


# Source of the licences: the model cards on the hub, read in November 2026; timm's `pretrained_cfg` for MetaCLIP,
#     MetaCLIP 2, ViTamin, ResNet and LAION-400M. OpenAI's is that of its repository.
FAMILIES = (
    Family("PE-Core", "Apache-2.0", r"PE-Core-.*,meta"),
    Family("SigLIP2", "Apache-2.0", r"ViT-.*-SigLIP2(-\d+)?,webli"),
    Family("SigLIP", "Apache-2.0", r"ViT-.*-SigLIP(-.*)?,webli"),
    Family("CLIPA", "Apache-2.0", r"ViT-.*-CLIPA(-\d+)?,.*"),
    Family("MobileCLIP2", "Apple AMLR", r"MobileCLIP2-.*"),
    Family("MobileCLIP", "Apple AMLR", r"MobileCLIP-.*"),
    Family("DFN", "Apple AMLR", r".*,dfn\w*"),
    Family("MetaCLIP2", "CC-BY-NC-4.0", r".*,metaclip2_worldwide"),
    Family("MetaCLIP", "CC-BY-NC-4.0", r".*,metaclip_\w+"),
    Family("ViTamin", "MIT", r"ViTamin-.*"),
    Family("EVA", "MIT", r"EVA0[12]-.*"),
    Family("CoCa", "MIT", r"coca_ViT-.*"),
    Family("ConvNeXt", "MIT", r"convnext_.*"),
    Family("OpenAI", "MIT", r"(ViT|RN)\w*-.*,openai"),
    Family("DataComp", "MIT", r"ViT-.*,(datacomp|commonpool)_\w+"),
    Family("LAION", "MIT", r"(ViT|roberta|xlm-roberta)-.*,(frozen_)?laion\w+"),
    Family("OpenCLIP", "MIT", r"RN\d+-quickgelu,(yfcc15m|cc12m)"),
)


def family_of(arch: str, tag: str) -> Family | None:
    """Return the family of the weights `arch,tag`; None if it is unknown."""
    return next((family for family in FAMILIES if re.fullmatch(family.matches, f"{arch},{tag}")), None)
