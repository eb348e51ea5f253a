"""File formats: tables, tensors, clips, manifests."""
