"""Which model is trained, and how."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime.settings import CHECKED, Count

ModelName = Literal["landmarks", "small", "pretrained"]
Side = Annotated[int, Field(ge=32, le=512)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _Defaults(NamedTuple):
    epochs: int
    learning_rate: float
    side: int | None


_DEFAULTS: dict[ModelName, _Defaults] = {
    "landmarks": _Defaults(80, 3e-3, None),
    "small": _Defaults(40, 2e-3, 96),
    "pretrained": _Defaults(12, 1e-3, 128),
}


@checked_dataclass(frozen=True, config=CHECKED)
class TrainingSettings:
    """How a classifier is trained; `resolve` fills in what is None.

    Attributes
    ----------
    model
        ``landmarks``: a small network on the 21 points of the hand; ``small``: a convolutional network on crops, from
        scratch; ``pretrained``: a network on crops that begins with weights of ImageNet.
    epochs
        Passes over the training part.
    batch
        Samples per step.
    learning_rate
        The largest one, of AdamW with one cycle; the weights of `pretrained` get a tenth of it.
    side
        Pixels of the side of the square that crops are brought to; `landmarks` has none.
    weights
        Of `pretrained`: a file of weights of torchvision, or the folder that holds one. None: EfficientNet-Lite0.
    seed
        Of the first weights, the order of samples, and augmentation: on one machine the same seed gives the same model.

    Examples
    --------
    >>> TrainingSettings(model="landmarks", epochs=10).resolve().learning_rate
    0.003
    """

    model: ModelName = "landmarks"
    epochs: Count | None = None
    batch: Count = 32
    learning_rate: Rate | None = None
    side: Side | None = None
    weights: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    def resolve(self) -> TrainingSettings:
        """Return these settings with the defaults of the model for what is None."""
        default = _DEFAULTS[self.model]
        return TrainingSettings(
            model=self.model,
            epochs=self.epochs or default.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate or default.learning_rate,
            side=default.side and (self.side or default.side),
            weights=self.weights,
            seed=self.seed,
        )
