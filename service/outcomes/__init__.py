"""Outcome events: their catalogue, and their way from the outbox to Kafka."""
