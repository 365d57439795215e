"""Silences over REST: list, create, expire. What is answered is in the topic: a restart forgets nothing."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Body, Path
from pydantic import AwareDatetime, BaseModel, Field

from live_api import models
from live_api.feeds import SilenceBook
from live_api.rest import PROBLEMS
from live_api.strict_route import StrictRoute
from live_api.trace_query import timestamp
from tracecore.silence import Matcher, MatchOperator, Silence


class LabelMatcher(BaseModel):
    """What one label of an alert must be; a regular expression must match the whole value."""

    name: str = Field(min_length=1, max_length=256)
    value: str = Field(max_length=256)
    op: MatchOperator = "="


class NewSilence(BaseModel):
    """Alerts that fit every matcher are not told between the two times."""

    matchers: list[LabelMatcher] = Field(min_length=1, max_length=20)
    starts_at: AwareDatetime | None = Field(None, description="Default: now.")
    ends_at: AwareDatetime
    created_by: str = Field("", max_length=256)
    comment: str = Field("", max_length=256)


class SetSilence(BaseModel):
    """A silence, and whether it holds now."""

    silence_id: str
    matchers: list[LabelMatcher]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    is_active: bool


class SetSilences(BaseModel):
    """Silences that hold, will hold, or held in the last five days; the newest first."""

    silences: list[SetSilence]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": models.Problem, "description": "It is not there."}}


def silence_router(book: SilenceBook) -> APIRouter:
    """The routes under /api/v1/silences."""
    router = APIRouter(prefix="/api/v1/silences", responses=PROBLEMS, tags=["alerts"], route_class=StrictRoute)

    @router.get("")
    async def silences() -> SetSilences:
        """All silences of now and of late."""
        now_ns = time.time_ns()
        return SetSilences(silences=[_shown(each, now_ns) for each in book.silences.shown(now_ns)])

    @router.post("", status_code=201, responses={413: {"model": models.Problem, "description": "Too large."}})
    async def create(wanted: Annotated[NewSilence, Body()]) -> SetSilence:
        """Set a silence. It holds for alerts that are told after it; what was told stays told."""
        now_ns = time.time_ns()
        silence = Silence(
            silence_id=uuid4().hex,
            matchers=tuple(Matcher(each.name, each.value, each.op) for each in wanted.matchers),
            starts_at_ns=now_ns if wanted.starts_at is None else _unix_ns(wanted.starts_at),
            ends_at_ns=_unix_ns(wanted.ends_at),
            created_by=wanted.created_by,
            comment=wanted.comment,
            updated_at_ns=now_ns,
        )
        await book.publish(book.silences.created(silence, now_ns))
        return _shown(silence, now_ns)

    @router.delete("/{silence_id}", responses=_NOT_FOUND)
    async def expire(silence_id: Annotated[str, Path(max_length=64)]) -> SetSilence:
        """End a silence now; one that has ended stays as it is."""
        now_ns = time.time_ns()
        silence = book.silences.expired(silence_id, now_ns)
        if silence.updated_at_ns == now_ns:
            await book.publish(silence)
        return _shown(silence, now_ns)

    return router


def _shown(silence: Silence, now_ns: int) -> SetSilence:
    return SetSilence(
        silence_id=silence.silence_id,
        matchers=[LabelMatcher(name=each.name, value=each.value, op=each.op) for each in silence.matchers],
        starts_at=timestamp(silence.starts_at_ns),
        ends_at=timestamp(silence.ends_at_ns),
        created_by=silence.created_by,
        comment=silence.comment,
        is_active=silence.is_active(now_ns),
    )


def _unix_ns(time: datetime) -> int:
    return round((time - _EPOCH).total_seconds() * 1_000_000) * 1000
