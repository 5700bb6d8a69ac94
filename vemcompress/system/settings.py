"""The base of everything that a recipe can say."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]


class BaseSettings(BaseModel):
    """Frozen; unknown keys, silent conversions (the string "8" for 8) and infinite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
