"""Desired state and everything durable. All SQL of the project lives in this room."""
