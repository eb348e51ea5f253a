"""A synthetic world of captioned clips, small enough to train every bundled model on a laptop."""
