"""Questions answered over HTTP: an API, the protocols that other tools speak, and a page (extra `serve`)."""
