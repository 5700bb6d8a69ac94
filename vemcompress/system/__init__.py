"""What the machine gives: devices, the processes that torchrun started, and the base of everything that is set."""
