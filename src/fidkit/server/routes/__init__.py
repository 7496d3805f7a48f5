"""The routes of the API, a file a subject. Each is a function that gives a router for a service."""
