"""A stateful stand-in for Auth0, for development and tests. See docs/simulator.md."""
