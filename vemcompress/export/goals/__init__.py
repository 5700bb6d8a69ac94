"""Goals for latency and file size: predicted for every candidate shape, and measured for the chosen network.

`layers` finds the layers of a candidate and their shapes, `works` turns each layer into something that can be timed,
`runtimes` is the registry of runtimes that time it, and `table` stores the times. `goal` calibrates the predictions and
checks the result. `kinds` has the two goals, `subjects` the kinds of candidates, and `settings` the recipe keys. The
choice of channels and of the best candidate is made elsewhere (`pruning`).
"""
