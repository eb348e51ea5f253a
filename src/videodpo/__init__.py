"""VideoDPO: align a text-to-video diffusion model to an omni preference score."""

__version__ = "0.1.0"
