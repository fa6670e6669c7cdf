"""Distances to shots agree with a slow computation, and with scikit-learn's shrinkage written out."""

import numpy as np
import torch

from bike_cli.engine.heads.few_shot import Views
from bike_cli.engine.heads.shot_distances import fit_distances, knows_classes

CLASSES, EACH, FRAMES, WIDTH = 3, 5, 4, 6


def some_views(videos: int, seed: int) -> Views:
    dice = torch.Generator().manual_seed(seed)
    frames = torch.nn.functional.normalize(torch.randn(videos, FRAMES, WIDTH, generator=dice) + 1, dim=2)
    return Views(frames, torch.rand(videos, CLASSES, FRAMES, generator=dice).softmax(dim=2))


def test_distances_are_those_of_mahalanobis_with_an_oas_covariance() -> None:
    shots, classes = some_views(CLASSES * EACH, 0), torch.arange(CLASSES).repeat(EACH)
    videos = some_views(7, 1)

    closeness = fit_distances(shots, classes).closeness(videos)

    own = np.array([shots.weights[i, c].numpy() @ shots.frames[i].numpy() for i, c in enumerate(classes)], dtype=float)
    means = np.stack([own[classes.numpy() == c].mean(axis=0) for c in range(CLASSES)])
    around, freedom = own - means[classes.numpy()], CLASSES * (EACH - 1)
    covariance = around.T @ around / freedom
    square, trace = np.trace(covariance @ covariance), np.trace(covariance)
    shrinkage = min(
        1, ((1 - 2 / WIDTH) * square + trace**2) / ((freedom + 1 - 2 / WIDTH) * (square - trace**2 / WIDTH))
    )
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * trace / WIDTH * np.eye(WIDTH))
    for i, value in enumerate(closeness.tolist()):
        seen = [videos.weights[i, c].numpy() @ videos.frames[i].numpy() for c in range(CLASSES)]
        squares = [(z - mean) @ inverse @ (z - mean) for z, mean in zip(seen, means, strict=True)]
        np.testing.assert_allclose(value, -np.sqrt(min(squares)), rtol=1e-3)


def test_with_one_shot_per_class_distances_are_euclidean() -> None:
    shots = some_views(CLASSES, 0)

    distances = fit_distances(shots, torch.arange(CLASSES))

    assert torch.equal(distances.whitening, torch.eye(WIDTH))
    assert distances.closeness(shots).abs().max() < 1e-3  # each is its own mean


def test_the_text_is_known_if_it_is_correct_on_nine_of_ten_shots() -> None:
    text, classes = torch.eye(2), torch.zeros(10, dtype=torch.int64)
    frames = torch.tensor([[[1.0, 0.0]]]).repeat(10, 1, 1)
    weights = torch.ones(10, 2, 1)
    for wrong, known in ((0, True), (1, True), (2, False)):
        shown = frames.clone()
        shown[:wrong] = torch.tensor([0.0, 1.0])
        assert knows_classes(Views(shown, weights), classes, text) is known
