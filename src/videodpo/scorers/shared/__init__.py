"""Code shared by several scorers: backbones, preprocessing of frames, and weights."""
