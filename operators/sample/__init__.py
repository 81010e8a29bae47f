"""The sample organizations and the sample day of ``provisioner dev``."""
