"""Trainings of other model families than the small run's."""

from __future__ import annotations

from tests.models.families import FAMILIES, write
from tests.train.conftest import Trainings


class OfFamily(Trainings):
    """Trainings of another family than the small run's."""

    def __init__(self, name, folder):
        super().__init__(write(FAMILIES[name], folder / "model"), folder / "results")
        self._family = FAMILIES[name]

    def variant(self, **changes):
        run = super().variant(schedule={"num_steps": 4, "micro_batch_size": 1}, **changes)
        family, config = self._family, run.config
        model = config.model.model_copy(update={"family": family.family, "max_sequence_length": family.text_tokens})
        generate = config.generate.model_copy(update={"sampling": family.sampling})
        run.config = config.model_copy(update={"model": model, "generate": generate})
        return run
