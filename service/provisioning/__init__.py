"""What is wanted against what is there, and the lanes that close the gap."""
