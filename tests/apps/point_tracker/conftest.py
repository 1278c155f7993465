"""The workbench and the clip that the tests of tracker apps share."""

from tests.common.serving.conftest import _sdk_speaks_plain_http, clip, served, stage

__all__ = ["_sdk_speaks_plain_http", "clip", "served", "stage"]
