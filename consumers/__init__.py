"""HR events in, from Kafka and over HTTP. Knows nothing of Auth0 or SCIM."""
