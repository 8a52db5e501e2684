"""What the fleet drill's servers take from the units of examples/."""

from tasks.drill.fleet_servers import settings


def test_the_plants_settings_are_those_that_the_units_read() -> None:
    assert settings()["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] == "false"
    assert len([name for name in settings() if "BATCH_SIZE" in name]) == 6
