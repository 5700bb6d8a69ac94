"""Groups of the numbers in metrics.jsonl, for headings."""

ADD_ON = ("energy", "langevin", "information")  # names of the add-on's values begin with these
TEACHERS = {"teacher_": "the teacher", "wide_": "the wide teacher", "deep_": "the deep teacher"}
TEACHERS |= {"a_": "generator A to B", "b_": "generator B to A"}


def group_of(name: str) -> str:
    """The heading under which a number of metrics.jsonl is shown: the network that is trained by it, if its name says
    so; otherwise the student."""
    if name == "lr":
        return "schedule"
    if name.startswith(ADD_ON):
        return "add-on"
    if "_d_" in name:
        return "losses of discriminators"
    return next((f"losses of {title}" for start, title in TEACHERS.items() if name.startswith(start)), "losses")
