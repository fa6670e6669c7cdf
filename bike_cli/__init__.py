"""Zero- and few-shot video classification: BIKE as a library.

import bike_cli as bike

engine = bike.load("tiny")
for answer in bike.classify(engine, ["clip.mp4"], ["red circle", "blue star"]):
    print(answer)
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

from bike_cli.versions import __version__ as __version__  # the usual place

if TYPE_CHECKING:
    from bike_cli.config import (
        AttributeConfig,
        BatchConfig,
        CalibrateConfig,
        ClassifyConfig,
        EmbedConfig,
        EngineConfig,
        EvalConfig,
        FewshotConfig,
        FinetuneConfig,
        KeepingConfig,
        LearningConfig,
        SamplingConfig,
        SpotConfig,
        SpottingConfig,
    )
    from bike_cli.data.detection.detection_sets import DetectionSet, read_detection_set
    from bike_cli.data.detection.detections import Detections, read_detections
    from bike_cli.data.labelled.eval_sets import EvalSet, read_eval_set
    from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
    from bike_cli.data.labels import LabelSet, read_label_set
    from bike_cli.engine.calibration.calibration import Calibration, Curve
    from bike_cli.engine.calibration.files import read_calibration, write_calibration
    from bike_cli.engine.engine import Engine, load
    from bike_cli.engine.heads.saved_classifier import SavedClassifier, load_classifier, save_classifier
    from bike_cli.errors import BikeError, ConfigError, ModelError, UsageError, VideoError
    from bike_cli.inference.classifier import Classifier
    from bike_cli.records import (
        Attribute,
        Clip,
        Failure,
        Lexicon,
        Peak,
        Prediction,
        Prompt,
        Ranked,
        Segment,
        Source,
        TextFeatures,
        Timeline,
        VideoFeatures,
    )
    from bike_cli.tasks.calibrate.calibrate import calibrate
    from bike_cli.tasks.calibrate.reading import read_calibration_set
    from bike_cli.tasks.calibrate.report import CalibrationReport
    from bike_cli.tasks.classify import classify, classify_with, prepare_classifier
    from bike_cli.tasks.detection.evaluation import evaluate_detections
    from bike_cli.tasks.detection.report import DetectionReport
    from bike_cli.tasks.embed import embed, embed_labels, read_embeddings
    from bike_cli.tasks.evaluate.evaluation import System, evaluate
    from bike_cli.tasks.evaluate.report import EvaluationReport
    from bike_cli.tasks.fewshot.learning import FewshotResult, fewshot
    from bike_cli.tasks.fewshot.study import Study
    from bike_cli.tasks.finetune.run import FinetuneResult, Finetuning, finetune
    from bike_cli.tasks.parts import Part, classify_part
    from bike_cli.tasks.spot import spot
    from bike_cli.video.workers.pool import DecodePool

__all__ = [
    "Attribute",
    "AttributeConfig",
    "BatchConfig",
    "BikeError",
    "CalibrateConfig",
    "Calibration",
    "CalibrationReport",
    "Classifier",
    "ClassifyConfig",
    "Clip",
    "ConfigError",
    "Curve",
    "DecodePool",
    "DetectionReport",
    "DetectionSet",
    "Detections",
    "EmbedConfig",
    "Engine",
    "EngineConfig",
    "EvalConfig",
    "EvalSet",
    "EvaluationReport",
    "Failure",
    "FewshotConfig",
    "FewshotResult",
    "FinetuneConfig",
    "FinetuneResult",
    "Finetuning",
    "KeepingConfig",
    "LabelSet",
    "LearningConfig",
    "Lexicon",
    "ModelError",
    "Part",
    "Peak",
    "Prediction",
    "Prompt",
    "Ranked",
    "SamplingConfig",
    "SavedClassifier",
    "Segment",
    "Source",
    "SpotConfig",
    "SpottingConfig",
    "Study",
    "System",
    "TextFeatures",
    "Timeline",
    "TrainSet",
    "UsageError",
    "VideoError",
    "VideoFeatures",
    "calibrate",
    "classify",
    "classify_part",
    "classify_with",
    "embed",
    "embed_labels",
    "evaluate",
    "evaluate_detections",
    "fewshot",
    "finetune",
    "load",
    "load_classifier",
    "prepare_classifier",
    "read_calibration",
    "read_calibration_set",
    "read_detection_set",
    "read_detections",
    "read_embeddings",
    "read_eval_set",
    "read_label_set",
    "read_labelled",
    "save_classifier",
    "spot",
    "write_calibration",
]

# Importing torch and open_clip takes seconds, and `bike --help` needs neither: names are looked up when first used.
_HOMES = {
    "bike_cli.config": (
        *("AttributeConfig", "BatchConfig", "CalibrateConfig", "ClassifyConfig", "EmbedConfig", "EngineConfig"),
        "EvalConfig",
        *("FewshotConfig", "FinetuneConfig", "KeepingConfig", "LearningConfig", "SamplingConfig", "SpotConfig"),
        "SpottingConfig",
    ),
    "bike_cli.data.detection.detection_sets": ("DetectionSet", "read_detection_set"),
    "bike_cli.data.detection.detections": ("Detections", "read_detections"),
    "bike_cli.data.labelled.eval_sets": ("EvalSet", "read_eval_set"),
    "bike_cli.data.labelled.train_sets": ("TrainSet", "read_labelled"),
    "bike_cli.engine.calibration.calibration": ("Calibration", "Curve"),
    "bike_cli.engine.calibration.files": ("read_calibration", "write_calibration"),
    "bike_cli.data.labels": ("LabelSet", "read_label_set"),
    "bike_cli.engine.engine": ("Engine", "load"),
    "bike_cli.engine.heads.saved_classifier": ("SavedClassifier", "load_classifier", "save_classifier"),
    "bike_cli.errors": ("BikeError", "ConfigError", "ModelError", "UsageError", "VideoError"),
    "bike_cli.tasks.calibrate.calibrate": ("calibrate",),
    "bike_cli.tasks.calibrate.reading": ("read_calibration_set",),
    "bike_cli.tasks.calibrate.report": ("CalibrationReport",),
    "bike_cli.inference.classifier": ("Classifier",),
    "bike_cli.tasks.classify": ("classify", "classify_with", "prepare_classifier"),
    "bike_cli.tasks.detection.evaluation": ("evaluate_detections",),
    "bike_cli.tasks.detection.report": ("DetectionReport",),
    "bike_cli.tasks.embed": ("embed", "embed_labels", "read_embeddings"),
    "bike_cli.tasks.evaluate.evaluation": ("System", "evaluate"),
    "bike_cli.tasks.evaluate.report": ("EvaluationReport",),
    "bike_cli.tasks.fewshot.learning": ("FewshotResult", "fewshot"),
    "bike_cli.tasks.fewshot.study": ("Study",),
    "bike_cli.tasks.finetune.run": ("FinetuneResult", "Finetuning", "finetune"),
    "bike_cli.tasks.parts": ("Part", "classify_part"),
    "bike_cli.tasks.spot": ("spot",),
    "bike_cli.video.workers.pool": ("DecodePool",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {  # old names, until the next release
    "LabelledSet": "TrainSet",
    "Learnt": "SavedClassifier",
    "load_learnt": "load_classifier",
    "save_learnt": "save_classifier",
}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        message = f"bike_cli.{name} was renamed to bike_cli.{_RENAMED[name]}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name not in __all__:
        raise AttributeError(f"module 'bike_cli' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF.get(name, "bike_cli.records")), name)


def __dir__() -> list[str]:
    # Modules that were imported are in `globals()`, too.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
