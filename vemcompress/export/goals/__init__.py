"""Goals on a device, latency and file size: predicted for any candidate shape, and measured of the product.

`layers` finds a candidate's layers and their shapes, `works` makes each of them something that can be timed, `runtimes`
holds the registry of what times it, `table` keeps the times. `goal` calibrates predictions and checks the product,
`kinds` has the goals, `subjects` says which networks the candidates are, `settings` the keys of recipes. Which channels
go, and which candidate wins, is decided elsewhere.
"""
