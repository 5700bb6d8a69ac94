"""What every room may use: devices and memory, files and their names, events, the processes that torchrun started, and
the base of all settings. Nothing here knows of networks, images or runs."""
