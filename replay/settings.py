"""Every knob of replays: TRACEWATCH_REPLAY_*. What a run is about stands on its command line."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ReplaySettings(BaseSettings):
    """How replays run."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_REPLAY_", frozen=True)

    checkpoint_s: float = Field(1.0, ge=0.1, le=60, description="How often a replay's progress is stored.")
    drain_timeout_s: float = Field(
        300.0, ge=1, description="A replay fails if nothing more is assembled or stored for this long."
    )
    max_in_flight_bytes: int = Field(
        16_000_000, ge=1_000_000, description="Bytes sent to Kafka and not acknowledged yet, at most."
    )
    max_ahead_bytes: int = Field(
        128_000_000, ge=1_000_000, description="Bytes sent and not assembled yet, at most: beyond, sending waits."
    )
    nice: int = Field(
        10, ge=0, le=19, description="How much a replay and its stream worker give way to others on their machine."
    )
