"""The seam between controller and amphora: bundle, fence, heartbeat, and the client of the agent's API."""
