"""The whole pipeline on one machine: embedded services, the rooms as processes, and a demo shop that fails on purpose.

Nothing here is imported by another room, and no room is imported here: what runs together are processes.
"""
