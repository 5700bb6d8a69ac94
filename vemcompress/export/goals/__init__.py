"""Goals on a device, latency and file size: predicted for any candidate shape, and measured of the product.

`layers` finds a candidate's layers and their shapes, `works` makes each of them something that can be timed, `runtimes`
holds the registry of what times it, `table` keeps the times, `goal` predicts with them and checks the product.
`subjects` says which networks the candidates are. Which channels go, and which candidate wins, is decided elsewhere.
"""
