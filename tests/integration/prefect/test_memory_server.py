"""A run's own server makes at once the tables that Prefect's migrations lead to."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

from tasks.adapters.memory_server import make_tables
from tests.support.migrated import put_database

Columns = set[tuple[str, str, bool]]
Unique = set[tuple[str, ...]]


def tables_of(path: Path) -> dict[str, tuple[Columns, Unique]]:
    """Of each table its columns, with type and whether they may be empty, and what is unique. Lengths mean nothing."""
    found = {}
    with closing(sqlite3.connect(path)) as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            rows = database.execute(f'pragma table_info("{name}")')
            columns = {(row[1], row[2].partition("(")[0].replace("DOUBLE", "FLOAT"), bool(row[3])) for row in rows}
            indexes = [row[1] for row in database.execute(f'pragma index_list("{name}")') if row[2]]
            of_index = [database.execute(f'pragma index_info("{index}")').fetchall() for index in indexes]
            found[name] = columns, {tuple(str(row[2]) for row in rows) for rows in of_index}
    return found


def test_the_tables_are_those_that_the_migrations_make(tmp_path: Path) -> None:
    put_database(tmp_path / "migrated.db")
    with create_engine(f"sqlite:///{tmp_path / 'made.db'}").connect() as connection:
        make_tables(connection)
    migrated, made = tables_of(tmp_path / "migrated.db"), tables_of(tmp_path / "made.db")
    assert len(made) > 30
    assert migrated.keys() - made.keys() == {"alembic_version", "deployment_version"}, "no class has them"
    migrated["deployment"][0].discard(("version_id", "CHAR", False))  # nor that column
    assert {name: table for name, table in made.items() if table != migrated[name]} == {}
