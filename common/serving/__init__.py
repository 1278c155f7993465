"""The HTTP endpoints of tracker apps, built once and used by each app (see `app.create_app`)."""
