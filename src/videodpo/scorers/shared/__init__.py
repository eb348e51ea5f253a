"""What several scorers have in common: backbones, handling of frames and of weights."""
