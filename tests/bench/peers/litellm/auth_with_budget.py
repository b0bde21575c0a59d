"""Lets every key in with the budget in ``BUDGET_USD``, as a virtual key of the proxy has: those need PostgreSQL."""

from __future__ import annotations

import os

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth, hash_token


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """The proxy's hook for authentication of one's own."""
    return UserAPIKeyAuth(
        api_key=api_key, token=hash_token(api_key), key_alias="bench", max_budget=float(os.environ["BUDGET_USD"])
    )
