"""The database: migrations, transactions, geometry checks."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest
import supervisely as sly
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect
from supervisely.geometry.oriented_bbox import OrientedBBox

from apps.workbench.store import projects
from apps.workbench.store.database import Database
from apps.workbench.store.geometry_json import bounds, fits_class, inside
from apps.workbench.store.migrations import STEPS, migrate
from apps.workbench.store.models import Base
from common.errors import UserError


def _foreign_keys(path: Path, table: str) -> set[tuple[object, ...]]:
    # asked of SQLite itself: SQLAlchemy does not see ON DELETE where a column declares it
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
    finally:
        connection.close()
    return {(column, target, on_delete) for _, _, target, column, _, _, on_delete, _ in rows}


def _shape(path: Path) -> dict[str, object]:
    inspector = inspect(create_engine(f"sqlite:///{path}"))
    return {
        table: (
            {
                (c["name"], type(c["type"]).__name__, c["nullable"] and not c["primary_key"])
                for c in inspector.get_columns(table)
            },
            {(i["name"], tuple(i["column_names"])) for i in inspector.get_indexes(table)},
            {tuple(u["column_names"]) for u in inspector.get_unique_constraints(table)},
            _foreign_keys(path, table),
        )
        for table in sorted(inspector.get_table_names())
    }


def test_migrations_end_where_the_models_are(tmp_path: Path) -> None:
    assert migrate(tmp_path / "migrated.db") == 0
    Base.metadata.create_all(create_engine(f"sqlite:///{tmp_path / 'made.db'}"))
    assert _shape(tmp_path / "migrated.db") == _shape(tmp_path / "made.db")


def test_a_first_version_database_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    migrate(path, STEPS[:1])
    old = sqlite3.connect(path)
    old.execute("INSERT INTO projects VALUES (101, 1, 'old', '', '', 'videos', '{}', '{}', 't', 't')")
    old.execute("INSERT INTO datasets VALUES (1, 101, NULL, 'ds', '', '{}', 't', 't')")
    old.execute("INSERT INTO blobs VALUES ('h', 3, '{}', 't')")
    old.execute("INSERT INTO videos VALUES (1, 101, 1, 'v', 'h', '{}', '{}', 't', 't')")
    old.execute("INSERT INTO classes VALUES (1, 101, 'c', 'any', '{}', 't', 't')")
    old.execute("INSERT INTO objects VALUES (1, 1, 1, 1, '', '{}', 't', 't')")
    old.execute("INSERT INTO figures VALUES (7, 1, 1, 0, 'point', '{}', NULL, '{}', NULL, 0, 0, 1, NULL, 't', 't')")
    old.commit()
    old.close()
    assert migrate(path) == 1
    assert migrate(path) == len(STEPS), "a second time does nothing"
    database = Database(path)
    with database.write() as session:
        assert projects.get_project(session, 101).name == "old"
        assert projects.add_project(session, name="new", workspace_id=1, type="videos").id == 102
    database.close()
    new = sqlite3.connect(path)
    assert new.execute("SELECT id, key FROM figures").fetchall() == [(7, None)]
    assert new.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert new.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with pytest.raises(sqlite3.OperationalError):
        migrate(path, (*STEPS[:1], "CREATE TABLE half (a); CREATE TABLE projects (b)"))
    left = sqlite3.connect(path)
    assert left.execute("PRAGMA user_version").fetchone() == (1,)
    assert left.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchone() is None
    left.close()
    assert migrate(path) == 1


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path, (*STEPS, "CREATE TABLE future (a)"))
    with pytest.raises(UserError, match="newer"):
        Database(path)


def test_a_write_that_raises_is_undone(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with pytest.raises(ZeroDivisionError), database.write() as session:
        ident = projects.add_project(session, name="gone", workspace_id=1, type="videos").id
        raise ZeroDivisionError
    with database.read() as session, pytest.raises(UserError):
        projects.get_project(session, ident)
    with database.read() as session:
        assert session.connection().exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert session.connection().exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


_COORDINATE = st.integers(0, 60)


@given(st.lists(st.tuples(_COORDINATE, _COORDINATE), min_size=3, max_size=8))
def test_boxes_are_those_of_the_sdk(points: list[tuple[int, int]]) -> None:
    polygon = sly.Polygon([sly.PointLocation(row, col) for row, col in points])
    box = polygon.to_bbox()
    assert bounds("polygon", json.loads(json.dumps(polygon.to_json()))) == (box.top, box.left, box.bottom, box.right)


@given(_COORDINATE, _COORDINATE, st.integers(1, 40), st.integers(1, 40), st.floats(-4, 4))
def test_an_oriented_box_lies_within_its_bounds(top: int, left: int, height: int, width: int, angle: float) -> None:
    box = OrientedBBox(top, left, top + height, left + width, angle=angle)
    low_y, low_x, high_y, high_x = bounds("oriented_bbox", box.to_json()) or (0, 0, 0, 0)
    centre = (left + width / 2, top + height / 2)
    corners = [(sx * width / 2, sy * height / 2) for sx in (-1, 1) for sy in (-1, 1)]
    cos, sin = math.cos(angle), math.sin(angle)
    turned = [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in corners]
    assert min(x for x, _ in turned) == pytest.approx(low_x) and max(x for x, _ in turned) == pytest.approx(high_x)
    assert min(y for _, y in turned) == pytest.approx(low_y) and max(y for _, y in turned) == pytest.approx(high_y)


@given(st.integers(-2, 70), st.integers(-2, 70), st.integers(0, 70), st.integers(0, 70))
def test_inside_is_what_the_sdk_calls_inside(top: int, left: int, height: int, width: int) -> None:
    rectangle = sly.Rectangle(top, left, top + height, left + width)
    box = bounds("rectangle", rectangle.to_json())
    assert box is not None
    assert inside("rectangle", box, 64, 48) == sly.Rectangle.from_size((48, 64)).contains(rectangle)


@pytest.mark.parametrize(
    ("shape", "kind", "fits"),
    [("any", "bitmap", True), ("line", "polyline", True), ("line", "line", True), ("bitmap", "polygon", False)],
)
def test_which_class_holds_what(shape: str, kind: str, fits: bool) -> None:
    assert fits_class(shape, kind) is fits
