"""The only place that talks to a Supervisely server, the platform's or the workbench, in plain REST without the SDK."""
