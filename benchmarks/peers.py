"""Other ways to classify a video with some labels, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import decord
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

import bike_cli as bike

Answer = Callable[[str], object]


def plain_loop(engine: bike.Engine, labels: Sequence[str], frames: int) -> Answer:
    """Return the loop from open_clip's README on frames from decord: PIL, one video at a time."""
    model, recipe = engine.encoder.model, engine.encoder.recipe
    device = engine.encoder.placement.device
    preprocess = open_clip.image_transform(recipe.side, is_train=False, mean=recipe.mean, std=recipe.std)
    with torch.no_grad():
        texts = model.encode_text(engine.encoder.tokenizer(list(labels)).to(device), normalize=True)

    @torch.no_grad()
    def answer(file: str) -> list[float]:
        pictures = [Image.fromarray(frame) for frame in frames_of(file, frames)]
        pixels = torch.stack([preprocess(picture) for picture in pictures]).to(device)
        with engine.encoder.placement.autocast():
            features = model.encode_image(pixels, normalize=True).float().mean(dim=0)
        scores: list[float] = (100 * features @ texts.T).softmax(dim=-1).tolist()
        return scores

    return answer


def x_clip(engine: bike.Engine, labels: Sequence[str], frames: int) -> Answer:
    """Return X-CLIP, run as in its model card: base size, patches of 16 pixels, random weights, fp32."""
    from transformers import VideoMAEImageProcessor, XCLIPConfig, XCLIPModel

    config = XCLIPConfig(vision_config={"patch_size": 16, "num_frames": frames})
    device = engine.encoder.placement.device
    model = XCLIPModel(config).to(device).eval()
    processor = VideoMAEImageProcessor()
    tokens = engine.encoder.tokenizer(list(labels)).to(device)

    @torch.no_grad()
    def answer(file: str) -> list[float]:
        pixels = processor(list(frames_of(file, frames)), return_tensors="pt")["pixel_values"].to(device)
        logits = model(input_ids=tokens, attention_mask=(tokens != 0).long(), pixel_values=pixels).logits_per_video
        scores: list[float] = logits.softmax(dim=-1).flatten().tolist()
        return scores

    return answer


def frames_of(file: str, frames: int) -> NDArray[np.uint8]:
    """Read frames spread over the video, uint8 [T, H, W, 3], as both READMEs do."""
    reader = decord.VideoReader(file)
    positions = np.linspace(0, len(reader) - 1, frames).astype(int)
    pixels: NDArray[np.uint8] = reader.get_batch(positions.tolist()).asnumpy()
    return pixels


PEERS = {"open_clip loop": plain_loop, "X-CLIP": x_clip}
