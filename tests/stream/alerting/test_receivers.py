"""Receivers against a real HTTP server: what it is sent, and what happens when it will not take it."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stream.alerting.grouping import Notification
from stream.alerting.settings import AlertingSettings
from stream.notification_agents import Receiver, receivers_of
from tests.stream.alerting.test_grouping import alert


class Hook:
    """Answers with the given codes in turn, then 200; keeps what it was sent."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.bodies: list[Any] = []
        self.done = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        code = self.codes.pop(0) if self.codes else 200
        if code < 300:
            self.bodies.append(body)
            self.done.set()
        return web.Response(status=code)

    def server(self) -> TestServer:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        return TestServer(app)


NOTIFICATION = Notification("key", {"service": "cart"}, (alert(),))


async def told(hook: Hook, receiver: Receiver) -> None:
    async with aiohttp.ClientSession() as session:
        receiver.start(session)
        receiver.tell(NOTIFICATION)
        await asyncio.wait_for(hook.done.wait(), 20)
        while not receiver.is_idle:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await receiver.stop()


async def test_each_kind_of_receiver_gets_its_payload() -> None:
    hook = Hook()
    async with hook.server() as server:
        url = str(server.make_url("/hook"))
        settings = AlertingSettings(alert_webhook_urls=[url], alert_alertmanager_urls=[url], alert_slack_urls=[url])
        for receiver in receivers_of(settings):
            hook.done.clear()
            await told(hook, receiver)
    webhook, posted, slack = hook.bodies
    assert webhook["receiver"] == "webhook-1"
    assert posted[0]["labels"]["service"] == "cart"
    assert slack["attachments"][0]["title"] == "cart: error"


async def test_receiver_that_fails_is_tried_again_until_it_takes_it() -> None:
    hook = Hook(503, 429)
    async with hook.server() as server:
        receiver = Receiver("webhook-1", str(server.make_url("/")), lambda notification: {"key": notification.key})
        await told(hook, receiver)
    assert hook.bodies == [{"key": "key"}]
    assert (receiver.sent_total, receiver.failed_total, receiver.given_up_total) == (1, 2, 0)


async def test_receiver_that_will_never_like_it_is_given_up_without_its_secret_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = Hook(404)
    async with hook.server() as server, aiohttp.ClientSession() as session:
        receiver = Receiver("slack-1", str(server.make_url("/secret")), lambda notification: {})
        receiver.start(session)
        receiver.tell(NOTIFICATION)
        while not receiver.given_up_total:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await receiver.stop()
    assert "slack-1" in caplog.text
    assert "secret" not in caplog.text
