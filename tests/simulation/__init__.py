"""The commit protocol, the leases and the resume logic under simulated time, failures and interleavings.

The protocol's own code runs; what is replaced are the store's calls, clocks, processes and the work on a part.
`python -m tests.simulation --seed N --trace` replays one schedule.
"""
