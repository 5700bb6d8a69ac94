"""Recipe keys for goals: MACs, latency or file size."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vemcompress.export.goals.kinds import Wanted
from vemcompress.export.goals.runtimes import check_runtime
from vemcompress.system.quantities import LARGEST, LONGEST, milliseconds, size_in_bytes
from vemcompress.system.settings import BaseSettings, Macs

Milliseconds = Annotated[float, Field(gt=0, le=LONGEST), BeforeValidator(milliseconds)]
Bytes = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(size_in_bytes)]
RuntimeName = Annotated[str, Field(max_length=40), AfterValidator(check_runtime)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Multiple = Annotated[int, Field(ge=1, le=256)]


TARGETS = ("target_macs", "target_latency", "target_size")
BUDGET = (*TARGETS, "on", "threads")  # keys that are removed when the size is limited in another way


class GoalSettings(BaseSettings):
    """At most `target_macs`; or a `target_latency` of one image in ms ("20ms", "0.5s"), measured on this machine in the
    runtime `on` (onnxruntime, openvino, torch) with this number of `threads` (default: all cores); or a `target_size`
    of the exported float32 file in bytes ("500KB", "2MB")."""

    replaces: ClassVar = {
        "target_macs": ("target_latency", "target_size", "on", "threads"),
        "target_latency": ("target_macs", "target_size"),
        "target_size": ("target_macs", "target_latency", "on", "threads"),
    }

    target_macs: Macs | None = None
    target_latency: Milliseconds | None = None
    target_size: Bytes | None = None
    on: RuntimeName | None = None
    threads: Threads | None = None

    @model_validator(mode="after")
    def _of_latency(self):
        if self.target_latency is None and (self.on or self.threads):
            raise ValueError(f"{'on' if self.on else 'threads'} needs a target_latency, which is not set; omit it")
        return self

    @property
    def wanted(self) -> Wanted:
        """The goal that is measured; None for a budget of MACs."""
        return Wanted(self.target_latency, self.target_size, self.on, self.threads)
