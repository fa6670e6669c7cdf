"""Parts of `video.cutting`: find the packets of a clip, and copy or encode them."""
