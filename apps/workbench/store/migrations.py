"""How a database of any age becomes today's. Steps are only ever appended; a released step is never changed.

`PRAGMA user_version` holds the number of steps done. Each step runs in one transaction with its new number, so a crash
leaves the database at a whole step.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from common.errors import UserError

_ANNOTATIONS = """
CREATE TABLE projects (
  id INTEGER PRIMARY KEY AUTOINCREMENT, workspace_id INTEGER NOT NULL, name VARCHAR NOT NULL, description VARCHAR NOT NULL,
  readme VARCHAR NOT NULL, type VARCHAR NOT NULL, settings JSON NOT NULL, custom_data JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (workspace_id, name));
CREATE TABLE datasets (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  parent_id INTEGER REFERENCES datasets (id) ON DELETE CASCADE, name VARCHAR NOT NULL, description VARCHAR NOT NULL,
  custom_data JSON NOT NULL, created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL);
CREATE INDEX ix_datasets_project_id ON datasets (project_id);
CREATE INDEX ix_datasets_parent_id ON datasets (parent_id);
CREATE TABLE blobs (hash VARCHAR NOT NULL PRIMARY KEY, size INTEGER NOT NULL, meta JSON, created_at VARCHAR NOT NULL);
CREATE TABLE videos (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  dataset_id INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE, name VARCHAR NOT NULL,
  hash VARCHAR NOT NULL REFERENCES blobs (hash), meta JSON NOT NULL, custom_data JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (dataset_id, name));
CREATE INDEX ix_videos_project_id ON videos (project_id);
CREATE INDEX ix_videos_hash ON videos (hash);
CREATE TABLE classes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name VARCHAR NOT NULL, shape VARCHAR NOT NULL, data JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (project_id, name));
CREATE TABLE tag_metas (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name VARCHAR NOT NULL, value_type VARCHAR NOT NULL, data JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (project_id, name));
CREATE TABLE objects (
  id INTEGER PRIMARY KEY AUTOINCREMENT, dataset_id INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
  video_id INTEGER REFERENCES videos (id) ON DELETE CASCADE,
  class_id INTEGER NOT NULL REFERENCES classes (id) ON DELETE CASCADE, description VARCHAR NOT NULL, meta JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL);
CREATE INDEX ix_objects_dataset_id ON objects (dataset_id);
CREATE INDEX ix_objects_video_id ON objects (video_id);
CREATE INDEX ix_objects_class_id ON objects (class_id);
CREATE TABLE tags (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tag_meta_id INTEGER NOT NULL REFERENCES tag_metas (id) ON DELETE CASCADE,
  video_id INTEGER REFERENCES videos (id) ON DELETE CASCADE, object_id INTEGER REFERENCES objects (id) ON DELETE CASCADE,
  value JSON, first_frame INTEGER, last_frame INTEGER, extra JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL);
CREATE INDEX ix_tags_tag_meta_id ON tags (tag_meta_id);
CREATE INDEX ix_tags_video_id ON tags (video_id);
CREATE INDEX ix_tags_object_id ON tags (object_id);
CREATE TABLE figures (
  id INTEGER PRIMARY KEY AUTOINCREMENT, video_id INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
  object_id INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE, frame INTEGER NOT NULL,
  geometry_type VARCHAR NOT NULL, geometry VARCHAR NOT NULL, bbox VARCHAR, meta VARCHAR NOT NULL, track_id VARCHAR,
  nn_created BOOLEAN NOT NULL, nn_updated BOOLEAN NOT NULL, priority INTEGER, custom_data VARCHAR,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL);
CREATE INDEX ix_figures_video_frame ON figures (video_id, frame);
CREATE INDEX ix_figures_object_frame ON figures (object_id, frame);
INSERT INTO sqlite_sequence (name, seq) VALUES ('projects', 100), ('datasets', 1000), ('videos', 10000),
  ('classes', 20000), ('tag_metas', 30000), ('objects', 40000), ('tags', 5000000), ('figures', 10000000);
"""
# Ids of different kinds start far apart, so that an app which mixes them up gets "not found" and not somebody else's row.

_APPS = """
ALTER TABLE figures ADD COLUMN key VARCHAR;
CREATE INDEX ix_figures_object_key ON figures (object_id, key);
CREATE TABLE tasks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, app VARCHAR NOT NULL, name VARCHAR NOT NULL, status VARCHAR NOT NULL, url VARCHAR,
  session_token VARCHAR NOT NULL, config JSON NOT NULL, fields JSON NOT NULL, output JSON NOT NULL, meta JSON NOT NULL,
  pid INTEGER, pid_started DOUBLE, created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (session_token));
CREATE TABLE team_files (
  id INTEGER PRIMARY KEY AUTOINCREMENT, path VARCHAR NOT NULL, hash VARCHAR NOT NULL REFERENCES blobs (hash),
  mime VARCHAR NOT NULL, created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (path));
CREATE INDEX ix_team_files_hash ON team_files (hash);
INSERT INTO sqlite_sequence (name, seq) VALUES ('tasks', 500), ('team_files', 6000000);
"""

_PAGE = """
CREATE TABLE page_changes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, video_id INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
  label VARCHAR NOT NULL, request VARCHAR NOT NULL, reply JSON NOT NULL, undone BOOLEAN NOT NULL, state BLOB NOT NULL, size INTEGER NOT NULL, created_at VARCHAR NOT NULL);
CREATE INDEX ix_page_changes_video ON page_changes (video_id, id);
"""

_IMAGES = """
CREATE TABLE images (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  dataset_id INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE, name VARCHAR NOT NULL,
  hash VARCHAR NOT NULL REFERENCES blobs (hash), width INTEGER NOT NULL, height INTEGER NOT NULL, mime VARCHAR NOT NULL,
  description VARCHAR NOT NULL, meta JSON NOT NULL, custom_data JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (dataset_id, name));
CREATE INDEX ix_images_project_id ON images (project_id);
CREATE INDEX ix_images_hash ON images (hash);
CREATE TABLE labels (
  id INTEGER PRIMARY KEY AUTOINCREMENT, image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  class_id INTEGER NOT NULL REFERENCES classes (id) ON DELETE CASCADE, geometry_type VARCHAR NOT NULL,
  geometry VARCHAR NOT NULL, bbox VARCHAR, description VARCHAR NOT NULL, extra VARCHAR NOT NULL,
  nn_created BOOLEAN NOT NULL, nn_updated BOOLEAN NOT NULL, created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL);
CREATE INDEX ix_labels_image_id ON labels (image_id);
CREATE INDEX ix_labels_class_id ON labels (class_id);
ALTER TABLE tags ADD COLUMN image_id INTEGER REFERENCES images (id) ON DELETE CASCADE;
ALTER TABLE tags ADD COLUMN label_id INTEGER REFERENCES labels (id) ON DELETE CASCADE;
CREATE INDEX ix_tags_image_id ON tags (image_id);
CREATE INDEX ix_tags_label_id ON tags (label_id);
CREATE TABLE collections (
  id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name VARCHAR NOT NULL, description VARCHAR NOT NULL, type VARCHAR NOT NULL, meta JSON NOT NULL,
  created_at VARCHAR NOT NULL, updated_at VARCHAR NOT NULL, UNIQUE (project_id, name));
CREATE TABLE collection_items (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
  image_id INTEGER REFERENCES images (id) ON DELETE CASCADE, video_id INTEGER REFERENCES videos (id) ON DELETE CASCADE,
  created_at VARCHAR NOT NULL, UNIQUE (collection_id, image_id), UNIQUE (collection_id, video_id));
CREATE INDEX ix_collection_items_image ON collection_items (image_id);
CREATE INDEX ix_collection_items_video ON collection_items (video_id);
INSERT INTO sqlite_sequence (name, seq) VALUES ('images', 1000000), ('labels', 1000000000), ('collections', 60000),
  ('collection_items', 7000000);
"""
# Images and videos, labels and figures never share an id: several REST methods take either.

_LINKS = "ALTER TABLE images ADD COLUMN link VARCHAR;"
_VIDEO_LINKS = "ALTER TABLE videos ADD COLUMN link VARCHAR;"

STEPS: tuple[str, ...] = (_ANNOTATIONS, _APPS, _PAGE, _IMAGES, _LINKS, _VIDEO_LINKS)
"""Step k (from 1) turns version k - 1 into version k."""


def migrate(path: Path, steps: tuple[str, ...] = STEPS) -> int:
    """Bring the database file up to date, making it when missing; the version it had before.

    Raises `UserError` when a newer workbench wrote the file.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        before = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if before > len(steps):
            raise UserError(
                f"{path.name} was written by a newer workbench (version {before}, this one knows {len(steps)}); "
                "update the suite or choose another data folder."
            )
        for version in range(before + 1, len(steps) + 1):
            _run(connection, steps[version - 1], version)
    finally:
        connection.close()
    return before


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    # executescript would commit before it starts; statement by statement stays inside one transaction.
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done this step while we waited for the lock.
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) < version:
            for statement in filter(None, (part.strip() for part in script.split(";"))):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version:d}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
