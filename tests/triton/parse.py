"""Parses configs by Triton's own protobuf schema; run by the environment that has tritonclient.

`python parse.py CONFIG.pbtxt ...` prints them as JSON, in order; a config that does not parse ends it with a message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2


def parsed(path):
    message = text_format.Parse(Path(path).read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


sys.stdout.write(json.dumps([parsed(path) for path in sys.argv[1:]]))
