"""The loop of the paper's section 3, run state, optimisers and checkpoints."""
