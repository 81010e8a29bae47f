"""The only code that talks to Auth0."""
