"""The evaluation stored in a run folder. It is valid as long as the network's file has not changed."""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter

from vemcompress.errors import OutputError
from vemcompress.evaluation.conditions import Conditions
from vemcompress.evaluation.report import Evaluation
from vemcompress.runs.folder import RunFolder
from vemcompress.system import names
from vemcompress.system.events import Event
from vemcompress.system.files import MALFORMED, read_json, write_atomically

VERSION = 1
_EVALUATION, _CONDITIONS = TypeAdapter(Evaluation), TypeAdapter(Conditions)


@dataclass(frozen=True)
class KeptEvaluation:
    """The evaluation.json of a `run`, for the network file with this `sha256`."""

    run: RunFolder
    sha256: str

    def read(self, on_event: Event) -> Evaluation | None:
        """The stored evaluation; None if there is none, if it is for another network, or, with a warning, if it is
        damaged."""
        path = self.run.evaluation
        try:
            said = read_json(path)
            found = _EVALUATION.validate_python(said["evaluation"])
            _CONDITIONS.validate_python(found.conditions)
            return found if (said["version"], said["sha256"]) == (VERSION, self.sha256) else None
        except FileNotFoundError:
            return None
        except (OSError, *MALFORMED) as error:
            reason = " ".join(str(error).split())
            on_event({"event": "warning", "message": f"{path}: is damaged ({reason:.80}) and will be replaced."})
            return None

    def write(self, evaluation: Evaluation, on_event: Event) -> None:
        """Store the evaluation. If it cannot be written, there is a warning, not an error."""
        said = {"version": VERSION, "sha256": self.sha256, "evaluation": evaluation.as_dict()}
        try:
            write_atomically(self.run.evaluation, (json.dumps(names.plain(said), indent=2) + "\n").encode())
        except OutputError as error:
            on_event({"event": "warning", "message": f"the evaluation is not stored in the run folder: {error}"})
