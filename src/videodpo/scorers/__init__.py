"""One file a dimension, of its name."""
