"""The base of everything that a recipe can say."""

from pydantic import BaseModel, ConfigDict


class BaseSettings(BaseModel):
    """Frozen; unknown keys and silent conversions (the string "8" for 8) are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
