"""An organization in Auth0: as declared, as seen, the plan between the two, and its performing."""
