"""What happens, as it happens: one poller per process tells any number of subscribers.

`log` and `changes` say what has happened since they looked last, `feeds` are what a subscriber holds, `poller` puts
them together. Nothing here knows HTTP, and nothing is asked of the database while nobody listens.
"""
