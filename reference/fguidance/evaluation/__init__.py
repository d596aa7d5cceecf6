"""How well samples match reference data: Fréchet distance, precision and recall, Inception score, and the features."""

from fguidance.evaluation.features import extract_features, load_feature_network
from fguidance.evaluation.frechet import feature_statistics, frechet_distance, inception_score
from fguidance.evaluation.image_files import Reference, read_reference, read_samples, to_uint8, write_samples
from fguidance.evaluation.inception import Inception, load_inception
from fguidance.evaluation.precision_recall import precision_recall

__all__ = [
    "Inception",
    "Reference",
    "extract_features",
    "feature_statistics",
    "frechet_distance",
    "inception_score",
    "load_feature_network",
    "load_inception",
    "precision_recall",
    "read_reference",
    "read_samples",
    "to_uint8",
    "write_samples",
]
