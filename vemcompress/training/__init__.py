"""The training loop of the paper's section 3: learner, updates, optimisers, schedules, stability checks.

Nothing here knows a recipe or an algorithm. Checkpoints and logs are in `runs`.
"""
