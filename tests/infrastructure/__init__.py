"""Starts the real components that tests talk to, and stops them again.

Knows Postgres, Kafka and processes; knows nothing of what the tests do with them.
"""
