"""The top: command line, console, health, and the one place that wires the parts."""
