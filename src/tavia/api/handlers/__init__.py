"""One handler module per resource. What is common to them stands in ``common``, the URLs in ``tavia.api.routes``."""
