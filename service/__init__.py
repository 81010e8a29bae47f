"""The core: what customers and HR want, and how Auth0 is brought to it."""
