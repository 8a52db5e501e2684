"""Prefect's command line, `python -m tasks.adapters.memory_server server start`, for a database in memory.

Its tables are made at once, as Prefect's own classes describe them. Prefect's migrations, more than a hundred, lead to
the same tables and take more than half of a server's start.
"""

import os
from runpy import run_module

from prefect.server.database.orm_models import Base
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.schema import CreateIndex, CreateTable


def make_tables(connection: Connection) -> None:
    """Make every table and index of Prefect's. It lists an index twice."""
    for table in Base.metadata.sorted_tables:
        connection.execute(CreateTable(table))
        for index in {index.name: index for index in table.indexes}.values():
            connection.execute(CreateIndex(index))
    connection.commit()


def main() -> None:
    """Do what the arguments say, on the database of PREFECT_SERVER_DATABASE_CONNECTION_URL."""
    database = make_url(os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"]).set(drivername="sqlite")
    with create_engine(database).connect() as connection:  # it keeps the database in memory while nobody uses it
        make_tables(connection)
        run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
