"""SCIM 2.0 for customers: one base URL per organization. Knows nothing of Auth0 or Kafka."""
