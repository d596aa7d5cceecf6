"""Diffusion: noise schedules, the reverse step, and the sampler that a classifier guides.

Follows Dhariwal & Nichol 2021, arXiv:2105.05233, and Ma et al. 2024, arXiv:2310.11311.
"""

from fguidance.diffusion.adm import ADMConfig, ADMUNet, load_adm_unet
from fguidance.diffusion.adm_blocks import ADMShape
from fguidance.diffusion.adm_classifier import ADMClassifier, ADMClassifierConfig, load_adm_classifier
from fguidance.diffusion.baselines import EntropyAware, classifier_free
from fguidance.diffusion.resnet import ResNet, load_resnet
from fguidance.diffusion.sampler import ImageGuidance, StepRecord, sample
from fguidance.diffusion.schedule import Schedule
from fguidance.diffusion.small_classifier import SmallClassifier, SmallShape, load_small_classifier
from fguidance.diffusion.steps import (
    DDIMStep,
    FixedVariance,
    GuidanceStepSize,
    ReverseStep,
    fixed_variance,
    learned_log_variance,
    predict_clean,
    predict_noise,
    reverse_step,
)

__all__ = [
    "ADMClassifier",
    "ADMClassifierConfig",
    "ADMConfig",
    "ADMShape",
    "ADMUNet",
    "DDIMStep",
    "EntropyAware",
    "FixedVariance",
    "GuidanceStepSize",
    "ImageGuidance",
    "ResNet",
    "ReverseStep",
    "Schedule",
    "SmallClassifier",
    "SmallShape",
    "StepRecord",
    "classifier_free",
    "fixed_variance",
    "learned_log_variance",
    "load_adm_classifier",
    "load_adm_unet",
    "load_resnet",
    "load_small_classifier",
    "predict_clean",
    "predict_noise",
    "reverse_step",
    "sample",
]
